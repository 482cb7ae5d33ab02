"""Who failed how often: a source that failed too often is refused for a while, whatever it brings. Pure.

Bounded: beyond `SOURCES_KEPT` the source that failed longest ago is forgotten.
"""

import ipaddress
from collections import OrderedDict, deque
from dataclasses import dataclass, field

SOURCES_KEPT = 10_000
# One customer's network: a single machine has as many addresses in it as it likes.
V6_PREFIX_BITS = 64


@dataclass(slots=True, kw_only=True)
class FailedAttempts:
    """Times of the failures of each source, in seconds of a monotonic clock."""

    allowed: int
    within_s: float
    _failures: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def is_barred(self, source: str, now: float) -> bool:
        """Whether the source failed too often of late."""
        return len(self._recent(source, now)) >= self.allowed

    def add(self, source: str, now: float) -> bool:
        """Note a failure; whether it is the one from which on the source is barred."""
        failures = self._recent(source, now)
        was_barred = len(failures) >= self.allowed
        failures.append(now)
        self._failures[source] = failures
        self._failures.move_to_end(source)
        if len(self._failures) > SOURCES_KEPT:
            self._failures.popitem(last=False)
        return not was_barred and len(failures) >= self.allowed

    def _recent(self, source: str, now: float) -> deque[float]:
        failures = self._failures.get(source, deque(maxlen=self.allowed))
        while failures and failures[0] < now - self.within_s:
            failures.popleft()
        return failures


def source_of(peer: str) -> str:
    """The address in what gRPC says of its peer (`ipv4:10.0.0.1:5000`, `ipv6:[::1]:5000`, percent-encoded); of IPv6
    the network."""
    kind, _, rest = peer.partition(":")
    host = rest.replace("%5B", "[").replace("%5D", "]").rpartition(":")[0].strip("[]")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return kind or "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, V6_PREFIX_BITS), strict=False))
    return str(address)
