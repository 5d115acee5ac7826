"""Deduplication in parts, for more texts than one machine holds: the local result, from blocks that lie anywhere.

The work is in pure functions of the native module: hash and sketch the rows of a block, couple the members of one
partition of keys, verify couples with their tokens. Here they are put together over a `Pool`, which runs functions
somewhere and keeps what they return there. The caller's process holds a few numbers a row, the couples and the links;
never the tokens. Which rows stay is settled in one place, by the code that settles it locally.

keep, cluster and reason are those of `tso.dedup_texts` in mode "lsh" to the bit. So are the edges with link "star";
with "component" the clusters are held together by other links of the same kind, since which links are looked at once rows
are connected depends on the order of the work. Knows neither files nor Ray.
"""

from __future__ import annotations

from tso.parts.blocks import Blocks, Pool
from tso.parts.search import dedup_blocks
from tso.parts.work import read_block

__all__ = ["Blocks", "Pool", "dedup_blocks", "read_block"]
