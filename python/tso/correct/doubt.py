"""Whether a judge on a server judges at all: what it said to its first questions, held until one of them is answered.

As with a cell's draws, a question that is refused costs that question; but a server that refuses the first questions
about several prompts is no judge, and a run without its verdicts would be another run. Nothing of those refusals is
kept, so a mended server is asked them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tso.errors import ModelError
from tso.sample.base import Answer
from tso.sample.probe import Unanswered

MANY = 8  # prompts, or all where there are fewer

Keep = Callable[[int, Answer | Unanswered], None]


def first_of_each(prompts: Sequence[str]) -> list[int]:
    """The places where the first prompts stand first; none where all are one, which a filter may refuse."""
    places: dict[str, int] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(prompt, place)
    return list(places.values())[:MANY] if len(places) > 1 else []


class Doubt:
    """Passes on to `keep` what came of the first questions; refusals when one of them was answered."""

    def __init__(self, keep: Keep):
        self.keep = keep
        self.held: list[tuple[int, Unanswered]] = []
        self.answered = False

    def take(self, index: int, came: Answer | Unanswered) -> None:
        if isinstance(came, Unanswered):
            self.held.append((index, came))
        else:
            self.keep(index, came)
            self.answered = True
        if self.answered:
            for refusal in self.held:
                self.keep(*refusal)
            self.held.clear()

    def end(self, judge: str) -> None:
        """Raises ModelError when all were refused."""
        if self.held:
            raise ModelError(
                f"the judge {judge!r}: the server has no answer to any of its first {len(self.held)} questions, each "
                f"about another prompt; the last: {self.held[-1][1].why}; mend what it says at the server and run again, "
                "or choose another run.output_dir for other settings of the judge"
            )
