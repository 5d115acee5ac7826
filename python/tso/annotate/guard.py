"""Who may talk to the page: this machine's own browser, by the address that holds the secret.

A page that only this machine can reach is still reached by every web page that its browser shows. So a request has to
name this machine as its host (another name that was pointed here is refused), has to come from the page itself where a
browser says where it comes from, and has to know the secret.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?")
LARGEST = 1 << 20  # bytes of a request's body

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


def new_token() -> str:
    """256 bits that nobody can guess, as they stand in an address."""
    return secrets.token_urlsafe(32)


def refusal(method: str, path: str, headers: Mapping[str, list[str]], token: str) -> str | None:
    """Why a request is refused, or None. headers: lower-case names, with every value that was sent."""
    hosts = headers.get("host", [])
    if len(hosts) != 1 or not LOOPBACK.fullmatch(hosts[0]):
        return "this page is for 127.0.0.1 and localhost only"
    origins = headers.get("origin", [])
    if any(origin != f"http://{hosts[0]}" for origin in origins):
        return "this page takes requests from itself only"
    sites = headers.get("sec-fetch-site", [])
    if method != "GET" and any(site != "same-origin" for site in sites):
        return "this page takes requests from itself only"
    given = path.split("/", 2)[1] if path.startswith("/") else ""
    if not secrets.compare_digest(given.encode("utf-8", "replace"), token.encode()):
        return "the address has no valid key: open the one that tso annotate has printed"
    return None
