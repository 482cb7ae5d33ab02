"""The abort switch."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from bench.drills.abort import FILE, AbortSwitch, ask_to_abort

WITHIN_S = 10.0


async def test_who_asks_for_it_is_heard(tmp_path: Path) -> None:
    switch = AbortSwitch(tmp_path)
    with switch.on_signals():
        ask_to_abort(tmp_path)
        async with asyncio.timeout(WITHIN_S):
            await switch.watch()
    assert "borough drill abort" in switch.why
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_does_not_end_the_process(tmp_path: Path, number: signal.Signals) -> None:
    switch = AbortSwitch(tmp_path)
    with switch.on_signals():
        os.kill(os.getpid(), number)
        async with asyncio.timeout(WITHIN_S):
            await switch.thrown.wait()
    assert number.name in switch.why


async def test_what_was_asked_of_an_earlier_drill_does_not_count(tmp_path: Path) -> None:
    ask_to_abort(tmp_path)
    with AbortSwitch(tmp_path).on_signals():
        assert not (tmp_path / FILE).exists()
