"""What survives when a node loses power.

Each round runs a node's real parts on the state that the round before left: nats-server (the region), the replication
service with its Litestreams, and writer processes that put calls through the real CallStore. Writers tell every turn
that was acknowledged to them, and when; that ledger is this process's. At a random moment all of them are killed -9.

Then (a) on the same disk every acknowledged turn of all rounds so far must be there and the audit chain must verify,
and (b) the tenant is restored from the object store: what is missing of the ledger tells the recovery point. It is the
time from the acknowledgement of the oldest turn that is missing to the kill.

What it does not show: kill -9 leaves the page cache, so fsync itself is not put to the test.
"""

import asyncio
import os
import random
import shutil
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import apsw
import nats
import nats.errors
from nats.aio.client import Client

from contract.litestream_config import DatabaseKind, NatsAccess, database_bucket
from edge.records.database import DatabaseSettings, database_path, master_key_path
from edge.records.model import CallRecord, Transport, TurnRecord
from edge.records.store import CallStore, StoreSettings
from edge.records.subjects import SubjectId
from edge.records.verification import verify
from edge.replication.feed import ReplicaFeed
from edge.replication.restore import RestoreOrder, restore
from provisioning.local.layout import free_port

NODE, TENANT = "node-1", "acme"
CALLS_PER_WRITER = 6
TURNS_OF_A_CALL = 8
TURN_EVERY_S = 0.05
SUBJECTS = 40
READY_WITHIN_S = 30.0
KILL_AFTER_S = (0.2, 3.0)
ACKNOWLEDGED = "acknowledged"
REPLICATED = DatabaseSettings()

Turn = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DurabilityRound:
    """One power cut. Seconds; `rpo_s` 0 when nothing was missing in the replica."""

    number: int
    acknowledged: int
    lost_on_disk: int
    missing_in_replica: int
    rpo_s: float
    is_disk_chain_whole: bool
    is_restored_chain_whole: bool
    ready_s: float
    restore_s: float
    wal_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DurabilityReport:
    """All rounds."""

    seed: int
    rounds: list[DurabilityRound]

    @property
    def is_passed(self) -> bool:
        return all(
            cut.lost_on_disk == 0 and cut.is_disk_chain_whole and cut.is_restored_chain_whole and cut.rpo_s <= 1.0
            for cut in self.rounds
        )

    def summary(self) -> dict[str, object]:
        """What the README quotes."""
        rpos = sorted(cut.rpo_s for cut in self.rounds)
        return {
            "seed": self.seed,
            "rounds": len(self.rounds),
            "acknowledged": sum(cut.acknowledged for cut in self.rounds),
            "lost_on_disk": sum(cut.lost_on_disk for cut in self.rounds),
            "rpo_s": {"p50": rpos[len(rpos) // 2], "max": rpos[-1]},
            "restore_s_max": max(cut.restore_s for cut in self.rounds),
            "ready_s_max": max(cut.ready_s for cut in self.rounds),
            "wal_bytes_max": max(cut.wal_bytes for cut in self.rounds),
            "chains_whole": all(cut.is_disk_chain_whole and cut.is_restored_chain_whole for cut in self.rounds),
            "passed": self.is_passed,
        }


@dataclass(slots=True)
class _Ledger:
    """Every turn that a writer was told is on disk, and when."""

    turns: dict[Turn, float] = field(default_factory=dict)

    async def follow(self, writer: Process) -> None:
        """Read what a writer tells, to the end of its life."""
        assert writer.stdout is not None
        while line := await writer.stdout.readline():
            if line.startswith(ACKNOWLEDGED.encode()) and line.endswith(b"\n"):  # the others are log lines
                _, call_id, seq, at = line.split()
                self.turns[call_id.decode(), int(seq)] = float(at)


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCuts:
    """The node whose power is cut, in a folder of its own."""

    directory: Path
    seed: int
    writers: int = 3

    @property
    def records(self) -> Path:
        return self.directory / "records"

    async def run(self, rounds: int) -> DurabilityReport:
        """Cut the power so many times."""
        dice, ledger = random.Random(self.seed), _Ledger()  # noqa: S311 - moments, no secrets
        numbers = range(1, rounds + 1)
        cuts = [await self._round(number, ledger, dice.uniform(*KILL_AFTER_S)) for number in numbers]
        return DurabilityReport(seed=self.seed, rounds=cuts)

    async def _round(self, number: int, ledger: _Ledger, kill_after_s: float) -> DurabilityRound:
        before, began = len(ledger.turns), time.time()
        port = free_port(socket.SOCK_STREAM)
        async with asyncio.TaskGroup() as tasks, AsyncExitStack() as stack:
            killed = [await stack.enter_async_context(_program(self.directory, *self._nats(port)))]
            client = await stack.enter_async_context(_connected(port))
            killed.append(await stack.enter_async_context(_program(self.directory, *self._replication(port))))
            for index in range(self.writers):
                writer = _program(self.directory, *self._writer(f"r{number}w{index}"), is_heard=True)
                killed.append(await stack.enter_async_context(writer))
                tasks.create_task(ledger.follow(killed[-1]), name=f"writer:{index}")
            await _caught_up(client, began)
            ready_s = time.time() - began
            await asyncio.sleep(kill_after_s)
            wal_bytes = database_path(self.records, TENANT).with_suffix(".sqlite3-wal").stat().st_size
            litestreams = _processes_of(self.directory / "litestream")
            killed_at = time.time()
            for pid in [*litestreams, *(process.pid for process in killed)]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in killed:
                await process.wait()
        lost = ledger.turns.keys() - _turns(database_path(self.records, TENANT))
        missing, restore_s, is_restored_whole = await self._restored(ledger)
        return DurabilityRound(
            number=number,
            acknowledged=len(ledger.turns) - before,
            lost_on_disk=len(lost),
            missing_in_replica=len(missing),
            rpo_s=round(max((killed_at - ledger.turns[turn] for turn in missing), default=0.0), 3),
            is_disk_chain_whole=verify(self.records, TENANT, REPLICATED).is_whole,
            is_restored_chain_whole=is_restored_whole,
            ready_s=round(ready_s, 2),
            restore_s=round(restore_s, 2),
            wal_bytes=wal_bytes,
        )

    async def _restored(self, ledger: _Ledger) -> tuple[set[Turn], float, bool]:
        """Turns that the replica lacks, how long the restore took, whether the chain verifies."""
        port, target = free_port(socket.SOCK_STREAM), self.directory / "restored"
        shutil.rmtree(target, ignore_errors=True)
        async with _program(self.directory, *self._nats(port)), _connected(port):
            report = await restore(
                RestoreOrder(
                    tenant=TENANT,
                    from_node=NODE,
                    target=target,
                    nats=NatsAccess(url=f"nats://127.0.0.1:{port}"),
                    database=DatabaseSettings(master_key_file=master_key_path(self.records, REPLICATED)),
                )
            )
        missing = ledger.turns.keys() - _turns(database_path(target, TENANT))
        return set(missing), report.took_s, report.audit.is_whole

    def _nats(self, port: int) -> tuple[str, ...]:
        program = str(Path(sys.executable).with_name("nats-server"))
        return program, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(self.directory / "jetstream")

    def _replication(self, port: int) -> tuple[str, ...]:
        config = self.directory / "replication.toml"
        config.write_text(
            f'[node]\nname = "{NODE}"\n[nats]\nurls = ["nats://127.0.0.1:{port}"]\n'
            f'[records]\ndirectory = "{self.records}"\n[litestream]\ndirectory = "{self.directory / "litestream"}"\n',
            encoding="utf-8",
        )
        return sys.executable, "-m", "edge.replication", "--config", str(config)

    def _writer(self, name: str) -> tuple[str, ...]:
        return sys.executable, "-m", "bench.durability", str(self.records), name


async def write_calls(directory: Path, name: str) -> None:
    """What a writer process does, until it is killed: calls of a few turns, one after the other, several at once."""
    async with CallStore(directory, StoreSettings(database=REPLICATED)) as store, asyncio.TaskGroup() as group:
        for line in range(CALLS_PER_WRITER):
            group.create_task(_write_line(store, f"{name}-{line}"), name=f"line:{line}")


async def _write_line(store: CallStore, name: str) -> None:
    number = 0
    while True:
        number += 1
        call = CallRecord(
            call_id=f"{name}-{number}",
            tenant=TENANT,
            agent="bench",
            agent_version="1",
            subject_id=SubjectId(f"{hash(name) * number % SUBJECTS:032x}"),
            called_number="+4930123456",
            transport=Transport.SIP,
            started_at=datetime.now(UTC),
            answered_at=datetime.now(UTC),
        )
        await store.save(call)
        for seq in range(TURNS_OF_A_CALL):
            turn = TurnRecord(
                call_id=call.call_id,
                tenant=TENANT,
                subject_id=call.subject_id,
                seq=seq,
                began_at=datetime.now(UTC),
                caller_text="do you have the blue one in stock",
                agent_text="We have four of the blue ones in stock, at nineteen euros each.",
            )
            await store.save(turn)
            sys.stdout.write(f"{ACKNOWLEDGED} {turn.call_id} {seq} {time.time():.4f}\n")
            sys.stdout.flush()
            await asyncio.sleep(TURN_EVERY_S)


async def _caught_up(client: Client, since: float) -> None:
    """Wait until the replica has something of this round."""
    feed = ReplicaFeed(js=client.jetstream(), bucket=database_bucket(NODE, DatabaseKind.RECORDS, TENANT))
    async with asyncio.timeout(READY_WITHIN_S):
        while feed.through < since:
            with suppress(nats.errors.Error):
                await feed.open()
            await asyncio.sleep(0.1)
        await feed.close()


@asynccontextmanager
async def _program(directory: Path, *argv: str, is_heard: bool = False) -> AsyncIterator[Process]:
    """A process that dies with this block, its words in the folder's log or in a pipe."""
    with (directory / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            "setpriv", "--pdeathsig", "KILL", *argv, stdout=asyncio.subprocess.PIPE if is_heard else log, stderr=log
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[Client]:
    async def ignore(error: Exception) -> None:
        """It is killed on purpose."""

    client = Client()
    async with asyncio.timeout(READY_WITHIN_S):
        while not client.is_connected:
            with suppress(OSError, nats.errors.Error):
                await client.connect(
                    f"nats://127.0.0.1:{port}", allow_reconnect=False, error_cb=ignore, connect_timeout=1
                )
            await asyncio.sleep(0.05)
    try:
        yield client
    finally:
        await client.close()


def _turns(path: Path) -> set[Turn]:
    connection = apsw.Connection(str(path))
    try:
        rows = connection.execute("SELECT call_id, seq FROM turns JOIN turn_contents USING (call_id, seq)")
        return {(str(call_id), int(str(seq))) for call_id, seq in rows}
    finally:
        # Closing as the last one would checkpoint, and Litestream would lose its place.
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.close()


def _processes_of(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and str(folder).encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


if __name__ == "__main__":  # a writer, which the bench kills
    asyncio.run(write_calls(Path(sys.argv[1]), sys.argv[2]))
