"""Self-training preference optimisation for language models (TSO, arXiv 2409.02118)."""

from tso._core import Ledger, Plan
from tso.budgets import budgets
from tso.dedup import dedup_pairs, dedup_texts
from tso.diversity import diversity, select_diverse
from tso.index import DedupIndex

__version__ = "0.1.0"

__all__ = [
    "DedupIndex", "Ledger", "Plan", "__version__", "budgets", "dedup_pairs", "dedup_texts", "diversity", "select_diverse",
]  # fmt: skip
