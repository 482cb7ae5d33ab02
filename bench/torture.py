"""Odd SIP against the trunk: the messages of RFC 4475, and SIPp scenarios that misbehave (bench/sipp).

What is asserted is only that the node survives: its processes live, it still answers OPTIONS and calls, and no
channel, bridge or slot is left.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.errors import RegionMissingError
from bench.processes import usage_of
from bench.run import new_run_directory, run_calls
from bench.soak import short_calls, snapshot
from bench.target import Target, read_target

SIPP_SCENARIOS = Path(__file__).with_name("sipp")
LARGEST_DATAGRAM_BYTES = 65_000
REPLY_WITHIN_S = 0.15
OPTIONS_WITHIN_S = 3.0
# An answer that nobody acknowledges is given up after 64 times 500 ms (RFC 3261 13.3.1.4).
GIVES_UP_AFTER_S = 40.0
LOOK_EVERY_S = 1.0
SIPP_WITHIN_S = 60.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A SIPp scenario, how often and how fast."""

    name: str
    calls: int
    per_second: int


ATTACKS = (
    Attack(name="early_bye", calls=10, per_second=5),
    Attack(name="cancel", calls=10, per_second=5),
    Attack(name="reinvite_hold", calls=4, per_second=2),
    Attack(name="unknown_number", calls=10, per_second=5),
    Attack(name="malformed_sdp", calls=10, per_second=5),
    Attack(name="no_ack", calls=2, per_second=2),
    # A flood, bounded: more than the node has room for, all at once.
    Attack(name="cancel", calls=100, per_second=50),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackResult:
    """How SIPp saw it; exit code 1 means that some call went otherwise than its scenario has it."""

    name: str
    calls: int
    exit_code: int
    is_node_alive: bool


async def torture(target: Target, messages: Path, progress: Progress) -> dict[str, Any]:
    """Send everything odd; the report of `borough bench torture`."""
    if target.sip is None:
        raise RegionMissingError("the running region has no SIP trunk (Asterisk cannot be installed here)")
    directory = new_run_directory(target)
    odd = await asyncio.to_thread(read_messages, messages)
    datagrams = await send_messages(target.sip, odd)
    attacks = []
    for index, attack in enumerate(ATTACKS):
        attacks.append(await _attack(target, attack, directory))
        progress(index + 1, len(ATTACKS))
    is_idle_after_s = await _wait_until_idle(target)
    run = await run_calls(target, short_calls(target, 2), 1, directory, lambda _done, _of: None)
    after = read_target(target.state)
    still_calls = all(trace.is_script_done for trace in run.traces)
    return {
        "rfc4475": datagrams if odd else {"skipped": f"there are no messages in {messages}"},
        "sipp": [asdict(result) for result in attacks],
        "idle_after_s": is_idle_after_s,
        "same_processes": after.processes == target.processes and _all_live(target),
        "still_answers": still_calls,
        "passed": is_idle_after_s is not None
        and still_calls
        and after.processes == target.processes
        and _all_live(target)
        and not (datagrams["died_after"])
        and all(result.is_node_alive for result in attacks),
    }


def read_messages(folder: Path) -> dict[str, bytes]:
    """The datagrams of a folder by name; none when it is not there."""
    return {path.name: path.read_bytes()[:LARGEST_DATAGRAM_BYTES] for path in sorted(folder.glob("*.dat"))}


async def send_messages(address: tuple[str, int], messages: Mapping[str, bytes]) -> dict[str, Any]:
    """Send each message of RFC 4475 as a datagram and look for life after each."""
    replies, silent, dead = 0, 0, []
    for name, message in messages.items():
        answer = await asyncio.to_thread(_exchange, address, message, REPLY_WITHIN_S)
        replies += answer is not None
        silent += answer is None
        if not await asyncio.to_thread(is_answering, address):
            dead.append(name)
            break
    return {"sent": replies + silent, "answered": replies, "ignored": silent, "died_after": dead}


def is_answering(address: tuple[str, int]) -> bool:
    """Whether the trunk answers OPTIONS."""
    host, port = address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        own = probe.getsockname()[1]
    message = (
        f"OPTIONS sip:{host}:{port} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{own};rport;branch=z9hG4bKalive{own}\r\n"
        f"From: <sip:bench@127.0.0.1>;tag=alive{own}\r\nTo: <sip:{host}:{port}>\r\nCall-ID: alive-{own}\r\n"
        f"CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    )
    return (_exchange(address, message.encode(), OPTIONS_WITHIN_S) or b"").startswith(b"SIP/2.0 ")


def _exchange(address: tuple[str, int], message: bytes, within_s: float) -> bytes | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        probe.settimeout(within_s)
        probe.sendto(message, address)
        try:
            return probe.recv(65_536)
        except TimeoutError:
            return None


async def _attack(target: Target, attack: Attack, directory: Path) -> AttackResult:
    assert target.sip is not None
    log = directory / f"sipp-{attack.name}-{attack.calls}.log"
    number = next(iter(target.numbers))
    argv = ["sipp", f"{target.sip[0]}:{target.sip[1]}", "-sf", str(SIPP_SCENARIOS / f"{attack.name}.xml"), "-s", number]
    argv += ["-m", str(attack.calls), "-r", str(attack.per_second), "-l", str(attack.calls), "-i", "127.0.0.1"]
    argv += ["-nostdin", "-timeout", f"{SIPP_WITHIN_S:.0f}s", "-recv_timeout", "10000"]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, cwd=directory
        )
        try:
            async with asyncio.timeout(SIPP_WITHIN_S + 10):
                exit_code = await process.wait()
        except TimeoutError:
            exit_code = -1
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    return AttackResult(
        name=attack.name,
        calls=attack.calls,
        exit_code=exit_code,
        is_node_alive=await asyncio.to_thread(is_answering, target.sip),
    )


async def _wait_until_idle(target: Target) -> float | None:
    """Seconds until nothing of any call was left; None when something stays for good."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < GIVES_UP_AFTER_S:
        if (await snapshot(target)).is_idle:
            return round(loop.time() - began, 1)
        await asyncio.sleep(LOOK_EVERY_S)
    return None


def _all_live(target: Target) -> bool:
    return all(usage_of(pid) is not None for pid in target.processes.all())
