"""What the machine's nats-server tells on its monitoring port: whether it serves, its links, its streams."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from prometheus_client.core import GaugeMetricFamily, Metric

WITHIN_S = 3.0
ANSWER_LIMIT_BYTES = 16 * 1024 * 1024

HEALTHY = "borough_nats_healthy"
LINKS = "borough_nats_links"
STREAM_SIZE = "borough_jetstream_stream_bytes"
STREAM_LIMIT = "borough_jetstream_stream_limit_bytes"
COPIES_BEHIND = "borough_jetstream_copies_behind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A stream that may not grow without bound. `when_full`: what gives way, the `old` message or the `new` one.

    `copies_behind` is known where the stream's leader is: a follower hears nothing of the other followers.
    """

    name: str
    account: str
    when_full: str
    size_bytes: int
    limit_bytes: int
    copies_behind: int

    @classmethod
    def of(cls, account: str, detail: Mapping[str, object], server: str) -> Self:
        """From an entry of the server's /jsz. Raises KeyError, TypeError or ValueError."""
        config, state = _mapping(detail["config"]), _mapping(detail["state"])
        cluster = _mapping(detail.get("cluster", {}))
        copies = [_mapping(copy) for copy in _sequence(cluster.get("replicas", []))]
        leads = cluster.get("leader") == server
        return cls(
            name=str(config["name"]),
            account=account,
            when_full=str(config["discard"]),
            size_bytes=_integer(state["bytes"]),
            limit_bytes=_integer(config["max_bytes"]),
            copies_behind=sum(copy.get("current") is not True for copy in copies) if leads else 0,
        )


def read_nats(url: str) -> Iterator[Metric]:
    """Health, links and streams of the server that is monitored at `url`. Raises OSError or ValueError."""
    yield GaugeMetricFamily(HEALTHY, "1 while the server serves", value=float(_is_healthy(url)))
    try:
        server = _ask(f"{url}/varz")
        yield _links(server, _ask(f"{url}/routez"))
        streams = _ask(f"{url}/jsz?accounts=true&streams=true&config=true")
        yield from _stream_families(streams_of(streams, str(server["server_name"])))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{url} is no monitoring port of a nats-server") from error


def streams_of(answer: Mapping[str, object], server: str) -> list[Stream]:
    """The streams in an answer of the server's /jsz. Raises KeyError, TypeError or ValueError."""
    accounts = [_mapping(account) for account in _sequence(answer.get("account_details", []))]
    return [
        Stream.of(str(account["name"]), _mapping(detail), server)
        for account in accounts
        for detail in _sequence(account.get("stream_detail") or [])
    ]


def _is_healthy(url: str) -> bool:
    try:
        return _ask(f"{url}/healthz").get("status") == "ok"
    except urllib.error.HTTPError:
        return False


def _links(server: Mapping[str, object], routes: Mapping[str, object]) -> GaugeMetricFamily:
    links = GaugeMetricFamily(LINKS, "Servers that this one is linked with", labels=("kind",))
    links.add_metric(("leaf",), _integer(server["leafnodes"]))
    # Several routes lead to each sibling.
    names = {str(_mapping(route)["remote_name"]) for route in _sequence(routes["routes"])}
    links.add_metric(("sibling",), len(names))
    return links


def _stream_families(streams: Sequence[Stream]) -> Iterator[Metric]:
    labels = ("account", "stream", "when_full")
    size = GaugeMetricFamily(STREAM_SIZE, "Size of a stream", labels=labels)
    limit = GaugeMetricFamily(STREAM_LIMIT, "Its bound", labels=labels)
    behind = GaugeMetricFamily(COPIES_BEHIND, "Copies of the stream that its leader waits for", labels=labels)
    for stream in streams:
        names = (stream.account, stream.name, stream.when_full)
        size.add_metric(names, stream.size_bytes)
        behind.add_metric(names, stream.copies_behind)
        if stream.limit_bytes > 0:
            limit.add_metric(names, stream.limit_bytes)
    yield from (size, limit, behind)


def _ask(url: str) -> Mapping[str, object]:
    with urllib.request.urlopen(url, timeout=WITHIN_S) as response:  # noqa: S310 - our own loopback port
        return _mapping(json.loads(response.read(ANSWER_LIMIT_BYTES)))


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} is no object")
    return value


def _sequence(value: object) -> Sequence[object]:
    if not isinstance(value, list):
        raise TypeError(f"{type(value).__name__} is no list")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{type(value).__name__} is no number")
    return value
