"""One active instance: the lease over a real nats-server."""

import asyncio
import time

import pytest
from nats.aio.client import Client

from controlplane.errors import LeaseLostError
from controlplane.lease import Holder, Lease
from tests.controlplane.nats_server import NatsServer, connected

TTL_S = 1.0


def lease(client: Client, name: str) -> Lease:
    return Lease(client.jetstream(timeout=1), Holder(name=name, address=f"{name}:7443"), ttl_s=TTL_S)


async def test_the_first_holds_and_the_second_knows_who(nats: Client) -> None:
    first, second = lease(nats, "one"), lease(nats, "two")
    await asyncio.wait_for(first.acquire(), 5)
    assert first.is_held
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await second.acquire()
    assert not second.is_held
    assert second.active == Holder(name="one", address="one:7443")


async def test_renewing_keeps_it_longer_than_its_time(nats: Client) -> None:
    first, second = lease(nats, "one"), lease(nats, "two")
    await asyncio.wait_for(first.acquire(), 5)
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(first.keep())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5 * TTL_S):
                await second.acquire()
        assert first.is_held
        keeping.cancel()


async def test_a_holder_that_stops_renewing_stops_before_the_next_begins(nats: Client) -> None:
    first, second = lease(nats, "one"), lease(nats, "two")
    await asyncio.wait_for(first.acquire(), 5)
    began = time.monotonic()
    await asyncio.wait_for(second.acquire(), 5)
    assert not first.is_held
    assert TTL_S * 0.9 <= time.monotonic() - began <= TTL_S * 2
    with pytest.raises(LeaseLostError):
        await asyncio.wait_for(first.keep(), 5)


async def test_a_lease_that_is_given_back_is_free_at_once(nats: Client) -> None:
    first, second = lease(nats, "one"), lease(nats, "two")
    await asyncio.wait_for(first.acquire(), 5)
    await first.release()
    began = time.monotonic()
    await asyncio.wait_for(second.acquire(), 5)
    assert time.monotonic() - began < TTL_S / 2
    assert not first.is_held


async def test_without_a_server_the_lease_is_lost_in_its_time(nats_server: NatsServer) -> None:
    async with connected(nats_server) as client:
        held = lease(client, "one")
        await asyncio.wait_for(held.acquire(), 5)
        await nats_server.stop()
        began = time.monotonic()
        with pytest.raises(LeaseLostError):
            await asyncio.wait_for(held.keep(), 5)
        assert time.monotonic() - began <= TTL_S
        assert not held.is_held


async def test_an_instance_waits_for_a_server_that_comes_back(nats_server: NatsServer) -> None:
    async with connected(nats_server) as client, asyncio.TaskGroup() as tasks:
        await nats_server.stop()
        waiting = lease(client, "one")
        acquiring = tasks.create_task(waiting.acquire())
        await asyncio.wait([acquiring], timeout=0.5)
        assert not waiting.is_held
        await nats_server.start()
        await asyncio.wait_for(acquiring, 10)
        assert waiting.is_held


async def test_two_instances_of_the_same_name_do_not_share_it(nats: Client) -> None:
    first, second = lease(nats, "one"), lease(nats, "one")
    await asyncio.wait_for(first.acquire(), 5)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await second.acquire()
