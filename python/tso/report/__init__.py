"""One self-contained HTML file about a run, and the story of one pair; both read from the store alone."""

from tso.report.page import write
from tso.report.story import pair_story

__all__ = ["pair_story", "write"]
