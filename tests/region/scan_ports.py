"""Runs on a machine of the region's network: prints, as JSON, which TCP ports of each address take a connection.

scan_ports.py FIRST-LAST ADDRESS [ADDRESS ...]
"""

import itertools
import json
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

AT_ONCE = 3000
ANSWERS_WITHIN_S = 1.0


def _open_ports(address: str, ports: Sequence[int]) -> Iterator[int]:
    """Dial all of them at once; the time for an answer begins when the last was dialled, however slow we are."""
    with ExitStack() as stack:
        dialled, waiting = {}, select.epoll()
        stack.enter_context(waiting)
        for port in ports:
            dialling = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            dialling.connect_ex((address, port))
            waiting.register(dialling, select.EPOLLOUT | select.EPOLLONESHOT)
            dialled[dialling.fileno()] = port, dialling
        ends = time.monotonic() + ANSWERS_WITHIN_S
        is_last = False
        while not is_last:
            left_s = ends - time.monotonic()
            is_last = left_s <= 0
            for number, _ in waiting.poll(max(0.0, left_s), len(ports)):
                port, dialling = dialled[number]
                if dialling.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    yield port


def _scan(address: str, ports: range) -> list[int]:
    batches = (ports[first : first + AT_ONCE] for first in range(0, len(ports), AT_ONCE))
    return sorted(itertools.chain.from_iterable(_open_ports(address, batch) for batch in batches))


first, _, last = sys.argv[1].partition("-")
everything = range(int(first), int(last) + 1)
print(json.dumps({address: _scan(address, everything) for address in sys.argv[2:]}))  # noqa: T201 - its answer
