import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.call.errors import NoCapacityError
from edge.call.slots import RESERVED_S, SlotLedger

HOLDER = """
import sys
from pathlib import Path
from edge.call.slots import SlotLedger
slot = SlotLedger(directory=Path(sys.argv[1]), capacity=1).take(*sys.argv[2:])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_full_node_refuses_and_a_released_slot_is_free_again(tmp_path: Path) -> None:
    ledger = SlotLedger(directory=tmp_path, capacity=2)
    first, second = ledger.take(), ledger.take()
    assert ledger.in_use() == 2
    with pytest.raises(NoCapacityError):
        ledger.take()
    first.release()
    first.release()
    assert ledger.in_use() == 1
    ledger.take().release()
    second.release()
    assert ledger.in_use() == 0


def test_a_killed_worker_leaks_no_slot(tmp_path: Path) -> None:
    ledger = SlotLedger(directory=tmp_path, capacity=2)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert ledger.in_use() == 1
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(timeout=5)
    assert ledger.in_use() == 0


def test_the_slot_of_a_dead_worker_is_kept_for_who_adopts_its_call(tmp_path: Path) -> None:
    """New calls stay away from it for a while; the adopter gets it, and there is never one more than the capacity."""
    now = 0.0
    ledger = SlotLedger(directory=tmp_path, capacity=1, now=lambda: now)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path), "orphan"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(NoCapacityError):
            ledger.retake("orphan")
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(timeout=5)
    with pytest.raises(NoCapacityError):
        ledger.take("new")
    with ledger.retake("orphan"), pytest.raises(NoCapacityError):
        ledger.take("another")
    ledger.take("new").release()


def test_a_slot_that_nobody_retakes_is_free_again(tmp_path: Path) -> None:
    """After a while, or when all that can be adopted was."""
    now = [0.0]
    ledger = SlotLedger(directory=tmp_path, capacity=1, now=lambda: now[0])
    (tmp_path / "0000").write_text("orphan")
    with pytest.raises(NoCapacityError):
        ledger.take("new")
    now[0] += RESERVED_S + 1
    ledger.take("new").release()
    (tmp_path / "0000").write_text("orphan")
    ledger.forget_dead()
    ledger.take("new").release()
