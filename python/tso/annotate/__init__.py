"""`tso annotate`: people judge a run's pairs on a page that this machine serves to itself."""

from tso.annotate.serve import serve

__all__ = ["serve"]
