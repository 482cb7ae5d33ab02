"""A worker notices when Asterisk stops talking to it, and comes back; two workers of one name are an error."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from edge.telephony.ari import AriAddress, AriClient
from edge.telephony.errors import AriUnavailableError, StasisAppReplacedError
from edge.telephony.inbound import InboundCalls
from provisioning.asterisk.instance import AsteriskInstance
from tests.asterisk_pair import pair_settings, require_asterisk

APP = "calls-0"


async def test_worker_registers_again_after_asterisk_restarts(tmp_path: Path) -> None:
    """A crash is seen at once; the next Asterisk gets the app without our doing."""
    root = require_asterisk()
    settings, _ = pair_settings(tmp_path, stasis_apps=(APP,))
    address = AriAddress(url=settings.ari_url, user=settings.ari.user, password=settings.ari.password)
    async with (
        AsteriskInstance(root, settings) as first,
        AriClient(address) as client,
        InboundCalls(client, app=APP) as calls,
    ):
        first.kill()
        async with asyncio.timeout(3):
            await calls.wait_registered(is_registered=False)
        async with AsteriskInstance(root, settings), asyncio.timeout(10):
            await calls.wait_registered()
            assert await client.application(APP) is not None


async def test_hanging_asterisk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is stopped answers no ping: the listener gives it up."""
    monkeypatch.setattr("edge.telephony.ari.HEARTBEAT_S", 0.4)
    root = require_asterisk()
    settings, _ = pair_settings(tmp_path, stasis_apps=(APP,))
    address = AriAddress(url=settings.ari_url, user=settings.ari.user, password=settings.ari.password)
    async with (
        AsteriskInstance(root, settings) as asterisk,
        AriClient(address) as client,
        InboundCalls(client, app=APP) as calls,
    ):
        os.kill(asterisk.pid, signal.SIGSTOP)
        async with asyncio.timeout(3):
            await calls.wait_registered(is_registered=False)
        os.kill(asterisk.pid, signal.SIGCONT)
        async with asyncio.timeout(5):
            await calls.wait_registered()


async def test_second_worker_of_the_same_name_ends_the_first(tmp_path: Path) -> None:
    """Asterisk lets the newest win silently; we do not."""
    root = require_asterisk()
    settings, _ = pair_settings(tmp_path, stasis_apps=(APP,))
    address = AriAddress(url=settings.ari_url, user=settings.ari.user, password=settings.ari.password)
    async with AsteriskInstance(root, settings), AriClient(address) as client:

        async def run_both() -> None:
            async with InboundCalls(client, app=APP), asyncio.timeout(5), InboundCalls(client, app=APP):
                await asyncio.Event().wait()

        with pytest.raises(ExceptionGroup) as caught:
            await run_both()
        assert caught.group_contains(StasisAppReplacedError)


async def test_what_a_previous_life_left_is_ended(tmp_path: Path) -> None:
    """Channels and bridges named after our app do not outlive a restart of the worker."""
    root = require_asterisk()
    settings, _ = pair_settings(tmp_path, stasis_apps=(APP,))
    address = AriAddress(url=settings.ari_url, user=settings.ari.user, password=settings.ari.password)
    async with AsteriskInstance(root, settings), AriClient(address) as client:
        async with InboundCalls(client, app=APP):
            await client.create_bridge(f"{APP}.bridge.old")
            await client.create_media_channel(f"{APP}.media.old", APP)
            await client.create_bridge("calls-01.bridge.other")
        async with InboundCalls(client, app=APP):
            async with asyncio.timeout(2):
                while await client.channels():
                    continue
            assert await client.bridge_ids() == ["calls-01.bridge.other"]


async def test_no_asterisk_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registering gives up after its deadline."""
    monkeypatch.setattr("edge.telephony.inbound.REGISTER_TIMEOUT_S", 0.3)
    async with AriClient(AriAddress(url="http://127.0.0.1:9/ari", user="u", password="")) as client:
        with pytest.raises(AriUnavailableError, match="could not register"):
            async with InboundCalls(client, app=APP):
                pass
