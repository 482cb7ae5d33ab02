"""A second call from the number of a call that runs: nobody is told of it who does not own it, whatever NATS knows."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import json_format

from contract.downlink_pb2 import Roster, RosterNode
from contract.subjects import session_owner
from edge.call.neighbours import neighbours_of
from edge.call.owner import Fate
from edge.call.session_entry import EntryStatus, SessionEntry, place_of
from edge.conversation.dialogue import CallOutcome
from edge.inference.client_settings import SiblingSection
from edge.records.model import CallRecord
from edge.records.presence import Presence
from edge.records.store import CallStore, StoreSettings
from tests.edge.call.region_nodes import (
    ANNA,
    TENANT,
    WITHIN_S,
    Worker,
    a_call,
    access_to,
    agent_bucket,
    unhurried,
    wanted,
    working,
)
from tests.edge.call.test_cut_off_marks import answered
from tests.edge.replication.conftest import Server, server

__all__ = ["server", "unhurried"]
OTHER_BOOT = "00000000-0123456789abcdef"
A = "node-a"


@contextmanager
def door() -> Iterator[int]:
    """A machine that takes connections at the port of inference, until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def siblings(tmp_path: Path, port: int, *nodes: str) -> SiblingSection:
    """The region as its roster names it."""
    roster = Roster(region="eu-test", nodes=[RosterNode(name=node, address="127.0.0.1") for node in nodes])
    file = tmp_path / "roster.json"
    file.write_text(json_format.MessageToJson(roster))
    return SiblingSection(
        region="eu-test", node="node-b", port=port, authority=file, certificate=file, key=file, roster=file
    )


@asynccontextmanager
async def cable(url: str) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """The way of one worker to its NATS, which is cut while the event is set."""
    host, port = url.rpartition("/")[2].split(":")
    is_cut, held = asyncio.Event(), set[asyncio.Task[None]]()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                writer.write(piece)
        writer.close()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if is_cut.is_set():
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        pumps = [asyncio.create_task(pump(reader, far_writer)), asyncio.create_task(pump(far_reader, writer))]
        held.update(pumps)
        await is_cut.wait()
        for end in (writer, far_writer):
            end.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", is_cut
        is_cut.set()
        await asyncio.gather(*held)


async def fate(asking: Worker, *, run: str) -> Fate:
    """What a worker finds out of a call of node A that stands open."""
    entry = SessionEntry(call_id="old", node=A, run=run, saved_ms=0, status=EntryStatus.OPEN)
    return await asking.region.ring_backs.owners.fate(place_of(TENANT, ANNA, "old"), entry)


async def test_who_calls_while_nats_of_the_running_call_is_cut_is_greeted_as_new(
    tmp_path: Path, server: Server
) -> None:
    """Its node lives: another person at the same number hears nothing of it, and it goes on to be told once NATS is
    back."""
    with door() as port:
        async with (
            agent_bucket(server.url),
            cable(server.url) as (way, is_cut),
            working(tmp_path / "a", access_to(way, "a"), run="run-a") as a,
            working(tmp_path / "b", access_to(server.url, "b"), run="run-b", siblings=siblings(tmp_path, port, A)) as b,
        ):
            a.says(a_call("old"))
            await a.told()
            assert await b.rung_by(wanted("while whole")) is None
            is_cut.set()
            async with asyncio.timeout(WITHIN_S):
                while a.region.link.is_up:
                    await asyncio.sleep(0.01)
            assert await b.rung_by(wanted("while cut")) is None
            assert (b.results("still_running"), b.results("may_run"), b.results("resumed")) == (1, 1, 0)
            is_cut.clear()
            a.says(replace(a_call("old"), next_seq=4))
            await a.told()
            assert a.failures("resumed_elsewhere") == 0


async def test_a_machine_that_gives_no_sign_of_life_lost_its_calls(tmp_path: Path, server: Server) -> None:
    """Whoever of the region rings back is known at once; not where the roster does not say how to look."""
    with door() as port:
        of_region = siblings(tmp_path, port, A)
    async with (
        agent_bucket(server.url),
        working(tmp_path / "b", access_to(server.url, "b"), run="run-b", siblings=of_region) as b,
    ):
        async with working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
            a.says(a_call("old"))
        siblings(tmp_path, port, "node-b")
        assert await b.rung_by(wanted("unknown")) is None
        assert b.results("may_run") == 1
        siblings(tmp_path, port, A)
        assert await b.rung_by(wanted("new")) is not None


async def test_a_machine_lives_that_takes_a_connection(tmp_path: Path) -> None:
    """However busy what is behind the port. One with nobody behind it boots; who cannot be asked may live."""
    with door() as port:
        neighbours = neighbours_of(siblings(tmp_path, port, A))
        assert await neighbours.may_live(A)
    assert not await neighbours.may_live(A)
    assert await neighbours.may_live("node-c")
    (tmp_path / "roster.json").unlink()
    assert await neighbours.may_live(A)


async def test_a_call_that_a_sibling_adopted_runs(tmp_path: Path, server: Server) -> None:
    """Though the region still has the name of the dead worker."""
    dead = Presence(tmp_path).run
    async with (
        agent_bucket(server.url),
        working(tmp_path / "b", access_to(server.url, "b"), run="run-b") as b,
        working(tmp_path / "a", access_to(server.url, "a"), run="run-a2") as sibling,
    ):
        assert await fate(b, run=dead) is Fate.LOST
        sibling.says(a_call("old"))
        assert await fate(b, run=dead) is Fate.RUNS


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [(None, Fate.UNKNOWN), (CallOutcome.FAILED, Fate.CUT_OFF), (CallOutcome.CONTAINED, Fate.ENDED)],
)
async def test_a_node_knows_from_its_records_how_a_call_ended(
    tmp_path: Path, server: Server, outcome: CallOutcome | None, expected: Fate
) -> None:
    """One that is open and that no worker has may be about to be adopted. A call of an earlier boot is over."""
    async with (
        agent_bucket(server.url),
        working(tmp_path / "a", access_to(server.url, "a"), run="run-a2") as a,
        CallStore(tmp_path / "a/records", StoreSettings()) as store,
    ):
        await store.save(_ended(answered("old"), outcome))
        assert await fate(a, run=store.run) is expected
        if outcome is not CallOutcome.CONTAINED:
            assert await fate(a, run=OTHER_BOOT) is Fate.CUT_OFF


def _ended(call: CallRecord, outcome: CallOutcome | None) -> CallRecord:
    return call if outcome is None else replace(call, ended_at=call.started_at, outcome=outcome)


async def test_a_question_that_is_none_has_no_answer(tmp_path: Path, server: Server) -> None:
    async with agent_bucket(server.url), working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
        a.says(a_call("old"))
        client = a.region.link.client
        for question in (b"", b'{"tenant":"../x","call_id":"old","run":"r"}', b'{"tenant":"acme"}'):
            with pytest.raises(TimeoutError):
                await client.request(session_owner(A), question, timeout=0.1)
        assert await fate(a, run="run-a") is Fate.RUNS


async def test_who_has_a_call_that_another_call_went_on_with_is_told(tmp_path: Path, server: Server) -> None:
    """In the worst case, a node that is cut off from all others and goes on: its call ends when it hears of it."""
    async with agent_bucket(server.url), working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
        lost: list[str] = []
        a.region.sessions.watch(lost.append)
        a.says(a_call("old"))
        await a.told()
        store, seal = a.region.sessions.store, a.region.sessions.seal
        (stored,) = await store.all_of(TENANT, ANNA, within_s=2.0)
        entry = seal.entry_of(stored.place, stored.value)
        assert entry is not None
        claim = seal.seal(stored.place, entry.resumed("new"))
        assert await store.replace(stored.place, claim, stored.revision, ttl_s=0)
        for next_seq in (4, 5):
            a.says(replace(a_call("old"), next_seq=next_seq))
            await a.told()
        assert lost == ["old"]
        assert a.failures("resumed_elsewhere") == 1
