import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.call.errors import NoCapacityError
from edge.call.slots import SlotLedger

HOLDER = """
import sys
from pathlib import Path
from edge.call.slots import SlotLedger
slot = SlotLedger(directory=Path(sys.argv[1]), capacity=2).take()
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
