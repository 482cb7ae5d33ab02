"""Who may use the page: requests from the page itself, under a name of this node. Pure.

The Origin check keeps other sites from placing calls through a visitor's browser. The Host check keeps a foreign name
that was made to resolve to this node (DNS rebinding) from counting as "the same origin".
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit


def is_known_host(host: str, allowed_hosts: Collection[str]) -> bool:
    """Whether a Host header names this node: an address, localhost, or one of the names it was given."""
    name = _host_name(f"//{host}")
    if name is None:
        return False
    return name == "localhost" or name in allowed_hosts or _is_address(name)


def is_same_origin(origin: str | None, host: str) -> bool:
    """Whether the Origin header is this very page's."""
    return origin is not None and origin.lower() in {f"http://{host.lower()}", f"https://{host.lower()}"}


def _host_name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
