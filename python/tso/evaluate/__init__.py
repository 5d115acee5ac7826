"""What the run achieved, read from the store alone: held-out answers of the start model against later ones."""

from tso.evaluate.heldout import compare_arms, win_rate

__all__ = ["compare_arms", "win_rate"]
