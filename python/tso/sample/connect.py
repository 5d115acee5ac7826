"""The HTTP client for one server, from its endpoint and the environment: key, proxies, certificates."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tso.errors import ConfigError, MissingDependency
from tso.sample.endpoint import Endpoint

if TYPE_CHECKING:
    import httpx2


def connect(endpoint: Endpoint, key: str | None, timeout: float, concurrency: int) -> httpx2.AsyncClient:
    """Raises MissingDependency without httpx2, ConfigError for a proxy or certificates that cannot be used."""
    try:
        import httpx2
    except ImportError as err:
        raise MissingDependency("cells on servers need an HTTP client: pip install 'tso-align[openai]'") from err
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    try:
        return httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(timeout),
            limits=httpx2.Limits(max_connections=concurrency),
            follow_redirects=False,  # the key is for this server alone
            # Reading certificates takes long, and plain HTTP has none. SSL_CERT_FILE counts on this machine too.
            verify=httpx2.create_ssl_context() if endpoint.base_url.startswith("https") else False,
            trust_env=not is_here(endpoint.base_url),  # no proxy stands between a machine and itself
        )
    except OSError as err:
        raise ConfigError(
            f"cannot read the certificates for {endpoint.base_url}: {err}; see the environment variables SSL_CERT_FILE "
            "and SSL_CERT_DIR"
        ) from err
    except (ValueError, ImportError, httpx2.InvalidURL):  # its message may hold the proxy's password
        raise ConfigError(
            "the environment names a proxy that cannot be used (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or NO_PROXY); give "
            "one such as http://host:port, or unset it"
        ) from None


def is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        # 0.0.0.0 is what servers say that they listen on.
        return host == "localhost" or (at := ipaddress.ip_address(host)).is_loopback or at.is_unspecified
    except ValueError:
        return False
