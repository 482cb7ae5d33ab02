"""A caller who was cut off rings back, on whichever node: one call goes on, with the context of the old one."""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path

import nats
import pytest

from contract.subjects import SESSIONS_BUCKET, key_value_stream
from edge.call import region_ring_backs
from edge.call.ring_back import Unclaimed
from edge.call.saved_call import Phase, SavedAction, SavedCall
from edge.call.session_entry import SessionPlace
from edge.call.session_store import SessionStore, StoredSession
from edge.conversation.dialogue import EndCall
from edge.records.subjects import SubjectId
from tests.edge.call.region_nodes import (
    ANNA,
    NUMBER,
    TENANT,
    a_call,
    access_to,
    agent_bucket,
    unhurried,
    values,
    wanted,
    working,
)
from tests.edge.call.test_resumption import REPLYING
from tests.edge.replication.conftest import Server, server

__all__ = ["server", "unhurried"]


@dataclass(frozen=True, slots=True)
class Leaderless(SessionStore):
    """Takes no write until a leader is elected; the first one after it is stored, and its answer lost."""

    elected: asyncio.Event = field(default_factory=asyncio.Event)
    stored: list[int] = field(default_factory=list)

    async def replace(
        self, place: SessionPlace, value: bytes, revision: int, *, ttl_s: float, within_s: float = 2.0
    ) -> int | None:
        if not self.elected.is_set():
            await asyncio.sleep(min(within_s, 0.1))
            raise TimeoutError
        # Not super(): a class with slots is made twice.
        result = await SessionStore.replace(self, place, value, revision, ttl_s=ttl_s, within_s=within_s)
        if not self.stored:
            self.stored.append(result or 0)
            raise TimeoutError
        return result


@dataclass(frozen=True, slots=True)
class Stale(SessionStore):
    """The nearest replica is behind."""

    copy: tuple[StoredSession, ...] = ()

    async def all_of(self, tenant: str, subject_id: SubjectId, *, within_s: float) -> list[StoredSession]:
        return list(self.copy)


async def test_who_was_cut_off_with_a_node_goes_on_in_one_call_on_another(tmp_path: Path, server: Server) -> None:
    async with agent_bucket(server.url), working(tmp_path / "b", access_to(server.url, "b"), run="run-b") as b:
        async with working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
            a.says(a_call("old"))
            await a.told()
            assert await b.rung_by(wanted("early")) is None
            assert b.results("still_running") == 1
        both = await asyncio.gather(b.rung_by(wanted("new-1")), b.rung_by(wanted("new-2")))
        (claimed,) = [each for each in both if each is not None]
        assert claimed.ring_back.call_id == "old"
        assert claimed.ring_back.node == "node-a"
        assert claimed.ring_back.saved == a_call("old")
        assert (b.results("resumed"), b.results("taken_by_another")) == (1, 1)
        assert await b.rung_by(wanted("new-3")) is None


async def test_a_caller_who_hangs_up_before_the_answer_may_ring_again(tmp_path: Path, server: Server) -> None:
    async with agent_bucket(server.url), working(tmp_path / "b", access_to(server.url, "b"), run="run-b") as b:
        async with working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
            a.says(a_call("old"))
        claimed = await b.rung_by(wanted("new-1"))
        assert claimed is not None
        await b.region.ring_backs.give_back(claimed)
        again = await b.rung_by(wanted("new-2"))
        assert again is not None
        assert again.ring_back == claimed.ring_back


async def test_only_a_call_that_we_cut_off_stays_behind(tmp_path: Path, server: Server) -> None:
    """One that ended as callers' calls end is gone at once; one that we ended waits, though its worker lives."""
    async with agent_bucket(server.url), working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
        a.says(a_call("ended"))
        a.region.sessions.ended("ended", is_cut_off=False)
        await a.told()
        assert await a.rung_by(wanted("new-1")) is None
        assert a.results("still_running") == 0
        a.says(a_call("cut-off"))
        a.region.sessions.ended("cut-off", is_cut_off=True)
        await a.told()
        claimed = await a.rung_by(wanted("new-2"))
        assert claimed is not None
        assert claimed.ring_back.call_id == "cut-off"


async def test_what_one_person_of_a_house_said_is_not_for_another(tmp_path: Path, server: Server) -> None:
    async with agent_bucket(server.url), working(tmp_path / "b", access_to(server.url, "b"), run="run-b") as b:
        async with working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
            a.says(a_call("old-1"))
            a.says(a_call("old-2"))
        assert await b.rung_by(wanted("new")) is None
        assert b.results("several_calls") == 1


@pytest.mark.parametrize(
    "saved",
    [
        replace(a_call("old"), phase=Phase.WITH_HUMAN),
        replace(a_call("old"), turn=replace(REPLYING, action=SavedAction(end_call=EndCall(reason="goodbye")))),
        replace(a_call("old"), agent="another"),
    ],
    ids=["with a human", "goodbye", "another agent"],
)
async def test_nothing_is_left_to_say(tmp_path: Path, server: Server, saved: SavedCall) -> None:
    """The caller was with a human, was being said goodbye to, or now calls another agent."""
    async with agent_bucket(server.url), working(tmp_path / "b", access_to(server.url, "b"), run="run-b") as b:
        async with working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
            a.says(saved)
        assert await b.rung_by(wanted("new")) is None
        assert b.results("was_over") == 1


async def test_who_was_cut_off_often_is_still_known(tmp_path: Path, server: Server) -> None:
    """Marks of calls that were gone on with before hide no newer one."""
    async with agent_bucket(server.url), working(tmp_path / "b", access_to(server.url, "b"), run="run-b") as b:
        for number in range(20):
            b.says(a_call(f"old-{number}"))
            b.region.sessions.ended(f"old-{number}", is_cut_off=True)
            await b.told()
            claimed = await b.rung_by(wanted(f"new-{number}"))
            assert claimed is not None
            assert claimed.ring_back.call_id == f"old-{number}"


async def test_the_window_ends(tmp_path: Path, server: Server) -> None:
    """Nothing of a call is kept in the region longer than its tenant lets callers ring back."""
    async with agent_bucket(server.url), working(tmp_path / "b", access_to(server.url, "b"), run="run-b") as b:
        async with working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
            a.says(a_call("old"), window_s=1.0)
        assert await b.rung_by(wanted("new", window_s=0.0)) is None
        async with asyncio.timeout(5):
            while await values(b):
                await asyncio.sleep(0.05)


async def test_the_region_holds_neither_number_nor_words_and_can_forget(tmp_path: Path, server: Server) -> None:
    async with (
        agent_bucket(server.url) as bucket,
        working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a,
    ):
        a.says(a_call("old"))
        await a.told()
        client = await nats.connect(server.url)
        message = await client.jetstream().get_msg(key_value_stream(SESSIONS_BUCKET), seq=1)
        everything = f"{message.subject} {message.headers}".encode() + (message.data or b"")
        assert ANNA.encode() in everything
        for text in (NUMBER[1:], REPLYING.caller_text, REPLYING.speeches[0].text, "opening_hours"):
            assert text.encode() not in everything
        assert await bucket.forget(TENANT, ANNA) == 1
        message = await client.jetstream().get_last_msg(key_value_stream(SESSIONS_BUCKET), "$KV.sessions.>")
        assert not message.data
        info = await client.jetstream().stream_info(key_value_stream(SESSIONS_BUCKET))
        assert info.state.messages == 1
        await client.close()


async def test_what_was_erased_is_not_written_back(tmp_path: Path, server: Server) -> None:
    """A call that runs meanwhile goes on, also with another worker of the node; nothing more is told of it. The next
    call is."""
    async with (
        agent_bucket(server.url) as bucket,
        working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a,
        working(tmp_path / "a", access_to(server.url, "a"), run="run-a2") as sibling,
    ):
        a.says(a_call("old"))
        await a.told()
        await bucket.forget(TENANT, ANNA)
        for worker in (a, a, sibling):
            worker.says(replace(a_call("old"), next_seq=4))
            await worker.told()
            assert await values(worker) == [b""]
        a.region.sessions.ended("old", is_cut_off=True)
        await a.told()
        assert await values(a) == [b""]
        a.says(a_call("next"))
        await a.told()
        assert sum(bool(value) for value in await values(a)) == 1


async def test_an_entry_that_was_moved_to_another_caller_opens_for_nobody(tmp_path: Path, server: Server) -> None:
    async with agent_bucket(server.url), working(tmp_path / "b", access_to(server.url, "b"), run="run-b") as b:
        b.says(a_call("old"))
        b.region.sessions.ended("old", is_cut_off=True)
        await b.told()
        store, other = b.region.ring_backs.store, SubjectId("e" * 32)
        (entry,) = await store.all_of(TENANT, ANNA, within_s=2.0)
        moved = replace(entry.place, subject_id=other)
        assert await store.replace(moved, entry.value, 0, ttl_s=60)
        assert await b.rung_by(wanted("new", subject_id=other)) is None


async def test_a_node_that_was_taken_for_lost_tells_no_more_of_a_resumed_call(tmp_path: Path, server: Server) -> None:
    """It may have been cut off and run on; what it says later must not make the call resumable again."""
    async with agent_bucket(server.url), working(tmp_path / "b", access_to(server.url, "b"), run="run-b") as b:
        async with working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
            a.says(a_call("old"))
            a.region.sessions.ended("old", is_cut_off=True)
            await a.told()
            a.region.sessions._calls.clear()
            assert await b.rung_by(wanted("new")) is not None
            a.says(replace(a_call("old"), next_seq=4))
            await a.told()
            assert a.failures("resumed_elsewhere") == 1
        assert await b.rung_by(wanted("another")) is None


async def test_a_caller_who_is_faster_than_the_region_waits_for_it(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it elects a leader it can be read and not written; the claim follows, and is one claim."""
    monkeypatch.setattr(region_ring_backs, "BEFORE_ANSWER_S", 0.6)
    async with agent_bucket(server.url), working(tmp_path / "b", access_to(server.url, "b"), run="run-b") as b:
        async with working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
            a.says(a_call("old"))
        leaderless = Leaderless(b.region.link)
        ring_backs = replace(b.region.ring_backs, store=leaderless)
        found = await ring_backs.take_up(wanted("new"))
        assert isinstance(found, Unclaimed)
        assert b.results("resumed") == 0
        asyncio.get_running_loop().call_later(0.2, leaderless.elected.set)
        claimed = await ring_backs.claim_late(found)
        assert claimed is not None
        assert claimed.ring_back.call_id == "old"
        assert await ring_backs.take_up(wanted("another")) is None


@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_caller_who_does_not_wait_for_the_region_may_ring_again(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, *, is_stored: bool
) -> None:
    """Also where the claim was stored just before the caller hung up, and its answer lost."""
    monkeypatch.setattr(region_ring_backs, "BEFORE_ANSWER_S", 0.6)
    async with agent_bucket(server.url), working(tmp_path / "b", access_to(server.url, "b"), run="run-b") as b:
        async with working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
            a.says(a_call("old"))
        leaderless, gone = Leaderless(b.region.link), asyncio.Event()
        ring_backs = replace(b.region.ring_backs, store=leaderless)
        found = await ring_backs.take_up(wanted("new"))
        assert isinstance(found, Unclaimed)

        async def leaves() -> None:
            if is_stored:
                leaderless.elected.set()
            async with asyncio.timeout(5):
                while is_stored and not leaderless.stored:
                    await asyncio.sleep(0)
            gone.set()

        assert await ring_backs.claim_late(found, leaves) is None
        assert gone.is_set()
        assert bool(leaderless.stored) is is_stored
        monkeypatch.setattr(region_ring_backs, "BEFORE_ANSWER_S", 10.0)
        assert await b.rung_by(wanted("again")) is not None


async def test_an_old_copy_of_a_call_keeps_nobody_from_going_on(tmp_path: Path, server: Server) -> None:
    """What the nearest replica did not know yet is read again. A call that moved meanwhile runs, as its node says."""
    async with agent_bucket(server.url), working(tmp_path / "b", access_to(server.url, "b"), run="run-b") as b:
        async with working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
            a.says(a_call("old"))
            a.region.sessions.ended("old", is_cut_off=True)
            await a.told()
            (first,) = await b.region.ring_backs.store.all_of(TENANT, ANNA, within_s=2.0)
            a.says(replace(a_call("old"), next_seq=4))
            await a.told()
            stale = replace(b.region.ring_backs, store=Stale(b.region.link, (first,)))
            found = await stale.take_up(wanted("early"))
            assert isinstance(found, Unclaimed)
            assert await stale.claim_late(found) is None
            assert (b.results("still_running"), b.results("taken_by_another")) == (1, 0)
        found = await stale.take_up(wanted("new"))
        assert isinstance(found, Unclaimed)
        claimed = await stale.claim_late(found)
        assert claimed is not None
        assert claimed.ring_back.saved.next_seq == 4


async def test_without_nats_calls_neither_wait_nor_fail(tmp_path: Path, server: Server) -> None:
    """No bucket yet: it is counted, the newest state is kept, and told once there is one."""
    async with working(tmp_path / "a", access_to(server.url, "a"), run="run-a") as a:
        for next_seq in range(3, 50):
            a.says(replace(a_call("old"), next_seq=next_seq))
        assert await a.rung_by(wanted("new")) is None
        assert a.results("late") == 1
        async with asyncio.timeout(5):
            while not any(metric.samples for metric in a.metrics.sessions_failed.collect()):
                await asyncio.sleep(0.01)
        async with agent_bucket(server.url):
            await a.told()
            (stored,) = await a.region.ring_backs.store.all_of(TENANT, ANNA, within_s=2.0)
            entry = a.region.sessions.seal.entry_of(stored.place, stored.value)
            assert entry is not None
            assert '"next_seq":49' in entry.state
