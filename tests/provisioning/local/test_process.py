import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from provisioning.local.errors import ServiceStartError
from provisioning.local.process import ServiceSpec, hold_file, pid_file, running

WRITES_ITS_PID = "import os,sys,time; open(sys.argv[1],'w').write(str(os.getpid())); time.sleep(60)"


def spec_for(tmp_path: Path, code: str, *, ready_within_s: float = 5.0) -> ServiceSpec:
    marker = tmp_path / "started"

    async def is_ready() -> bool:
        return marker.exists()

    return ServiceSpec(
        name="sleeper",
        argv=[sys.executable, "-c", code, str(marker)],
        log=tmp_path / "sleeper.log",
        control=tmp_path,
        is_ready=is_ready,
        ready_within_s=ready_within_s,
    )


async def test_a_killed_service_is_started_again_and_stopped_at_the_end(tmp_path: Path) -> None:
    async with running(spec_for(tmp_path, WRITES_ITS_PID)) as service:
        first = service.pid
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(5):
            while service.restarts == 0:
                await asyncio.sleep(0.01)
        assert service.pid != first
    with pytest.raises(ProcessLookupError):
        os.kill(service.pid, 0)


async def test_a_service_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(ServiceStartError, match="no such model"):
        async with running(spec_for(tmp_path, "raise SystemExit('no such model')")):
            pass


async def test_a_service_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ServiceStartError, match="not ready in time"):
        async with running(spec_for(tmp_path, "import time; time.sleep(60)", ready_within_s=0.3)):
            pass


async def test_a_held_service_stays_dead_until_it_is_let_go(tmp_path: Path) -> None:
    async with running(spec_for(tmp_path, WRITES_ITS_PID)) as service:
        hold_file(tmp_path, "sleeper").touch()
        os.kill(service.pid, signal.SIGKILL)
        await asyncio.sleep(1.0)
        assert service.restarts == 0
        hold_file(tmp_path, "sleeper").unlink()
        async with asyncio.timeout(5):
            while service.restarts == 0:
                await asyncio.sleep(0.01)
        assert pid_file(tmp_path, "sleeper").read_text() == str(service.pid)


async def test_a_service_that_is_stopped_and_started_beside_its_keeper_runs_once(tmp_path: Path) -> None:
    """Whoever of the two comes first starts it; nothing is left of either at the end."""
    code = "import os,sys,time; open(sys.argv[1],'a').write(f'{os.getpid()} '); time.sleep(60)"
    async with running(spec_for(tmp_path, code)) as service:
        for pause_s in (0.0, 0.5):
            await service.stop()
            await asyncio.sleep(pause_s)
            await service.start()
            await asyncio.sleep(0.5)
        pids = [int(word) for word in (tmp_path / "started").read_text().split()]
        assert [pid for pid in pids if _runs(pid)] == [service.pid]
    assert not _runs(service.pid)


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
