"""A model on an OpenAI-compatible server: what a cell says of it, and the name under which the store knows it.

The key is read from the environment when it is needed and kept nowhere: neither in the store nor in a message.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from tso.config import CellSection
from tso.errors import ConfigError

PREFIX = "openai:"
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`path` is what cells and plans call it: two cells with equal paths ask the same model of the same server."""

    base_url: str  # without a slash at its end
    model: str
    api_key_env: str | None = None

    @property
    def path(self) -> str:
        return f"{self.base_url}#{self.model}"

    def key(self) -> str | None:
        """The key to send, if the cell names one. Raises ConfigError for a variable that is not set, or holds no key."""
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            # A name in small letters may be the key itself, put in the wrong place.
            named = self.api_key_env if self.api_key_env.isupper() else "that api_key_env names"
            raise ConfigError(
                f"the environment variable {named} is not set; it has to hold the key of {self.base_url}, and api_key_env "
                "is its name"
            )
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ConfigError(
                f"what the environment variable {self.api_key_env} holds is no key: it has line breaks, spaces or "
                "characters that a header cannot hold; set it to the key alone"
            )
        return key


def on_server(path: str) -> bool:
    """Whether a cell's path is that of an endpoint, and no folder."""
    return path.startswith(("http://", "https://"))


def endpoint_of(spec: CellSection) -> Endpoint | None:
    """The endpoint that a cell names, or None where it names something else. Raises ConfigError for half of one."""
    return endpoint(spec.model, spec.base_url, spec.api_key_env, f"cell {spec.name!r}: ")


def endpoint(model: str, base_url: str | None, api_key_env: str | None, where: str) -> Endpoint | None:
    """As `endpoint_of`, from options of any section; `where` stands before the options' names in messages."""
    if not model.startswith(PREFIX):
        for name, value in (("base_url", base_url), ("api_key_env", api_key_env)):
            if value is not None:
                raise ConfigError(f"{where}{name} is for model: {PREFIX}NAME, not {model!r}")
        return None
    if api_key_env is not None and not VARIABLE.fullmatch(api_key_env):  # not told, since it may be the key
        raise ConfigError(
            f"{where}api_key_env is no name of an environment variable; give the name of the one that holds the key, "
            "never the key itself"
        )
    named = model.removeprefix(PREFIX)
    if not named.strip() or base_url is None:
        raise ConfigError(
            f"{where.rstrip('.: ')}: give model: {PREFIX}NAME and the server's base_url, such as http://localhost:8000/v1"
        )
    return Endpoint(_checked(base_url, f"{where}base_url"), named, api_key_env)


def endpoints(cells: Iterable[CellSection]) -> dict[str, Endpoint]:
    """The endpoints that cells name, by path. Raises ConfigError when one is named with two keys."""
    found: dict[str, Endpoint] = {}
    for spec in cells:
        one = endpoint_of(spec)
        if one is not None and found.setdefault(one.path, one) != one:
            raise ConfigError(f"cell {spec.name!r}: {one.path} has another api_key_env in another cell")
    return found


def _checked(url: str, where: str) -> str:
    """A plain address: what identifies somebody belongs into the environment, not into a file of settings."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        valid = valid and url.isprintable() and " " not in url
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"{where}={url!r} is no address such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            f"{where} must be an address alone, without user, password, query or #; name a key's variable by api_key_env"
        )
    return (parts.scheme + url[len(parts.scheme) :]).rstrip("/")  # HTTP:// is http://
