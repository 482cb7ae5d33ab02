"""A small network of namespaces for tests: hosts on one switch, each with its own addresses, firewall and processes.

Nothing is routed to or from the machine that runs the tests.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMAND_TIMEOUT_S = 20.0
LOOK_EVERY_S = 0.05
PREFIX_LENGTH = 24
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One namespace; `address` is its own on the switch."""

    namespace: str
    address: str
    switch: str
    port: str

    def command(self, *argv: str) -> list[str]:
        """The command that runs `argv` on this host."""
        return ["ip", "netns", "exec", self.namespace, *argv]

    def run(self, *argv: str, check: bool = True, input_text: str | None = None) -> str:
        """Run to the end; its output."""
        done = subprocess.run(
            self.command(*argv),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            input=input_text,
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{argv} on {self.namespace}: {done.stdout}{done.stderr}")
        return done.stdout

    def open_socket(
        self, kind: socket.SocketKind, family: socket.AddressFamily = socket.AF_INET, protocol: int = 0
    ) -> socket.socket:
        """A socket of this host, usable from here: a socket stays where it was made."""
        made: list[socket.socket | OSError] = []
        thread = threading.Thread(target=lambda: made.append(_made_in(self.namespace, kind, family, protocol)))
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

    def get(self, address: tuple[str, int], path: str) -> str:
        """The body of an HTTP answer."""
        with self.open_socket(socket.SOCK_STREAM) as client:
            client.settimeout(COMMAND_TIMEOUT_S)
            client.connect(address)
            client.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
            answer = b""
            while b"\r\n\r\n" not in answer or len(answer) < _whole(answer):
                more = client.recv(65_536)
                if not more:
                    break
                answer += more
        return answer.partition(b"\r\n\r\n")[2].decode()


@contextmanager
def switched(addresses: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, Host]]:
    """Hosts by name, each with its addresses, all on one switch; gone afterwards with everything in them."""
    mark = f"bofd{os.getpid()}"
    switch = f"{mark}-switch"
    made = [switch]
    _ip("netns", "add", switch)
    try:
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        hosts = {}
        for index, (name, own) in enumerate(addresses.items()):
            namespace = f"{mark}-{name}"
            _ip("netns", "add", namespace)
            made.append(namespace)
            port = ("-n", switch, "link", "add", f"port{index}", "type", "veth", "peer", "name", "eth0")
            _ip(*port, "netns", namespace)
            _ip("-n", switch, "link", "set", f"port{index}", "master", "br0", "up")
            for address in own:
                _ip("-n", namespace, "address", "add", _with_prefix(address), "dev", "eth0", *_no_dad(address))
            _ip("-n", namespace, "link", "set", "lo", "up")
            _ip("-n", namespace, "link", "set", "eth0", "up")
            hosts[name] = Host(namespace=namespace, address=own[0], switch=switch, port=f"port{index}")
        yield hosts
    finally:
        for namespace in reversed(made):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, timeout=COMMAND_TIMEOUT_S)


def pull_cable(host: Host) -> None:
    """The host hears nobody from now on, and does not notice by itself."""
    _ip("-n", host.switch, "link", "set", host.port, "nomaster")


def plug_cable(host: Host) -> None:
    """The host hears and is heard again."""
    _ip("-n", host.switch, "link", "set", host.port, "master", "br0")


def until(fact: Callable[[], bool], *, within_s: float, what: str) -> float:
    """Wait for a fact; seconds it took."""
    began = time.monotonic()
    while not fact():
        if time.monotonic() - began > within_s:
            raise AssertionError(f"not within {within_s:.1f} s: {what}")
        time.sleep(LOOK_EVERY_S)
    return time.monotonic() - began


def require_namespaces() -> None:
    """Skip the test where there can be none."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")


def _made_in(
    namespace: str, kind: socket.SocketKind, family: socket.AddressFamily, protocol: int
) -> socket.socket | OSError:
    """Changes the namespace of the thread that runs it."""
    with Path(f"/run/netns/{namespace}").open("rb") as space:
        if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), _CLONE_NEWNET) != 0:
            return OSError(ctypes.get_errno(), f"setns {namespace}")
    try:
        return socket.socket(family, kind, protocol)
    except OSError as error:
        return error


def _whole(answer: bytes) -> int:
    head, _, _ = answer.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(head) + 4 + int(line.split(b":")[1])
    return 1 << 30


def _with_prefix(address: str) -> str:
    return f"{address}/64" if ":" in address else f"{address}/{PREFIX_LENGTH}"


def _no_dad(address: str) -> tuple[str, ...]:
    return ("nodad",) if ":" in address else ()


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise AssertionError(f"ip {' '.join(words)}: {done.stderr}")
