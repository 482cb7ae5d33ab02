"""What runs on a node itself: real slots of real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.drills import on_node

HOLD = """
import sys
from pathlib import Path
from edge.call.slots import SlotLedger
slot = SlotLedger(directory=Path(sys.argv[1]), capacity=4).take(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def settings(folder: Path) -> Path:
    slots = folder / "slots"
    text = f'[worker]\nname = "calls-1"\n[slots]\ndirectory = "{slots}"\ncapacity = 4\n[web]\nport = 1\n'
    (folder / "calls-1.toml").write_text(text, encoding="utf-8")
    return folder


@contextmanager
def holding(folder: Path, call_id: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", HOLD, str(folder / "slots"), call_id]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "held\n"
        yield worker
        assert worker.stdin is not None
        worker.stdin.close()


def test_calls_are_found_by_the_locks_of_their_workers(tmp_path: Path) -> None:
    node = settings(tmp_path)
    with holding(tmp_path, "call-a") as one, holding(tmp_path, "call-b") as two:
        found = {call["call_id"]: call["worker"] for call in on_node.calls(node)}
        assert found == {"call-a": one.pid, "call-b": two.pid}
    assert on_node.calls(node) == []


def test_the_worker_that_has_the_call_is_killed_and_no_other(tmp_path: Path) -> None:
    node = settings(tmp_path)
    with holding(tmp_path, "call-a") as one, holding(tmp_path, "call-b") as two:
        killed = on_node.kill_worker(node, "call-b")
        assert (killed["worker"], killed["call_ids"]) == (two.pid, ["call-b"])
        assert two.wait(10) == -signal.SIGKILL
        assert one.poll() is None
        assert on_node.kill_worker(node, "call-b")["worker"] is None


def test_a_worker_that_does_not_answer_is_a_trouble(tmp_path: Path) -> None:
    figures = on_node.health(settings(tmp_path))
    assert (figures["capacity"], figures["workers"], figures["running_calls"]) == (4, 1, 0)
    assert "calls-1 is not ready" in figures["troubles"][0]


def test_it_is_sent_to_machines_as_it_stands(tmp_path: Path) -> None:
    """It imports nothing of the bench, and answers one line of JSON."""
    source = Path(on_node.__file__).read_bytes()
    command = [sys.executable, "-I", "-", "calls", str(settings(tmp_path))]
    answer = subprocess.run(command, input=source, capture_output=True, check=True, env={"PATH": os.environ["PATH"]})
    assert json.loads(answer.stdout) == []
