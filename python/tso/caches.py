"""The caches of transformers that hold plain keys and values, and nothing else: those can be shared and narrowed."""

from __future__ import annotations

from typing import Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


def plain_cache(out: Any) -> dict[str, DynamicCache]:
    """The cache in a model's or generate's output as the option that gives it back; nothing where it is not plain.

    Plain is what has keys and values of tokens alone; a recurrent state is not.
    """
    name = "cache" if "cache" in out else "past_key_values"  # transformers 5.24 renamed it
    cache = out.get(name)
    layers = cache.layers if type(cache) is DynamicCache else []
    plain = bool(layers) and all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    return {name: cache} if plain else {}


def holds_all(cache: DynamicCache) -> bool:
    """Whether every layer keeps every token: a sliding window drops those that it has passed."""
    return all(type(layer) is DynamicLayer for layer in cache.layers)
