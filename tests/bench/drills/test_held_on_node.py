"""What services of a node hold: real processes, with real files, locks and an Asterisk's page."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from bench.drills import held_on_node
from bench.drills.holdings import holdings_of

SOCKETS, SAME_FILE = 5, 3
ALLOWED = f"Basic {base64.b64encode(b'borough:word').decode()}"
# A service with a child, a few sockets, one file opened several times, and a file that is deleted.
SERVICE = f"""
import socket, subprocess, sys, tempfile
sockets = [socket.socket() for _ in range({SOCKETS})]
same = [open(sys.argv[1]) for _ in range({SAME_FILE})]
gone = tempfile.TemporaryFile(dir=".")
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
print("up", flush=True)
sys.stdin.read()
child.kill()
"""
HOLD = """
import sys
from pathlib import Path
from edge.call.slots import SlotLedger
slot = SlotLedger(directory=Path(sys.argv[1]), capacity=4).take("call-a")
print("up", flush=True)
sys.stdin.read()
"""


class Page(BaseHTTPRequestHandler):
    """ARI, and the monitoring page of nats-server, as far as they are asked."""

    def do_GET(self) -> None:
        documents = {
            "/ari/channels": [{"id": "1"}, {"id": "2"}],
            "/ari/bridges": [{"id": "1"}],
            "/jsz?accounts=true&streams=true": {
                "account_details": [{"stream_detail": [{"name": "KV_sessions", "state": {"messages": 4}}]}]
            },
        }
        may = self.path.startswith("/jsz") or self.headers["Authorization"] == ALLOWED
        self.send_response(200 if may else 401)
        self.end_headers()
        self.wfile.write(json.dumps(documents[self.path]).encode())

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        serving = Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        yield server.server_port
        server.shutdown()
        serving.join()


@pytest.fixture
def settings(tmp_path: Path, port: int) -> Path:
    (tmp_path / "slots").mkdir()
    (tmp_path / "control").mkdir()
    (tmp_path / "ari").write_text("word\n", encoding="utf-8")
    (tmp_path / "nats.conf").write_text(f'server_name: "a-1"\nhttp: "127.0.0.1:{port}"\n', encoding="utf-8")
    (tmp_path / "calls-1.toml").write_text(
        f'[slots]\ndirectory = "{tmp_path / "slots"}"\n'
        f'[asterisk]\nurl = "http://127.0.0.1:{port}"\nuser = "borough"\npassword_file = "{tmp_path / "ari"}"\n',
        encoding="utf-8",
    )
    return tmp_path


@contextmanager
def running(folder: Path, script: str, argument: Path) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", script, str(argument)]
    with subprocess.Popen(
        argv, cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        assert process.stdin is not None
        process.stdin.close()


def test_what_a_service_and_its_children_hold_is_counted(settings: Path) -> None:
    with running(settings, SERVICE, settings / "ari") as service:
        (settings / "control" / "calls-1.pid").write_text(str(service.pid), encoding="utf-8")
        found = holdings_of(held_on_node.held(settings)).services["calls-1"]
    assert (found.main, found.processes) == (service.pid, 2)
    assert found.opened["sockets"] == SOCKETS
    assert found.opened[str(settings / "ari")] == SAME_FILE
    assert found.opened["deleted files"] == 1
    assert found.resident_bytes > 1024**2
    assert found.started > 0
    assert 0.0 <= found.served_s < 60.0


def test_a_service_that_is_dead_is_not_there(settings: Path) -> None:
    (settings / "control" / "calls-1.pid").write_text(str(2**22 + 1), encoding="utf-8")
    assert held_on_node.held(settings)["services"] == {}


def test_slots_channels_bridges_and_sessions_are_counted(settings: Path) -> None:
    with running(settings, HOLD, settings / "slots"):
        found = holdings_of(held_on_node.held(settings))
    assert (found.slots, found.channels, found.bridges, found.sessions) == (1, 2, 1, 4)
    assert found.run_files == len([path for path in settings.iterdir() if path.is_file()])
    assert held_on_node.held(settings)["slots"] == 0


def test_an_asterisk_that_does_not_let_us_in_has_no_count(settings: Path) -> None:
    (settings / "ari").write_text("another\n", encoding="utf-8")
    assert held_on_node.held(settings)["channels"] is None


def test_units_are_told_apart_by_their_cgroups() -> None:
    lines = (
        "0::/system.slice/system-borough\\x2dcalls.slice/borough-calls@1.service\n",
        "12:cpu:/nest/a-1\n1:name=systemd:/system.slice/borough-asterisk.service\n0::/\n",
        "0::/system.slice/kamailio.service\n",
    )
    found = [held_on_node.UNIT.search(line) for line in lines]
    assert [one and one[1] for one in found] == ["borough-calls@1", "borough-asterisk", None]


def test_it_is_sent_to_machines_as_it_stands(settings: Path) -> None:
    source = Path(held_on_node.__file__).read_bytes()
    command = [sys.executable, "-I", "-", "held", str(settings)]
    answer = subprocess.run(command, input=source, capture_output=True, check=True, env={"PATH": os.environ["PATH"]})
    assert holdings_of(json.loads(answer.stdout)).slots == 0
