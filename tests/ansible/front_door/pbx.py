"""Asterisk on hosts of a test's network: nodes as the product sets them up, and a carrier that calls them."""

import re
import select
import socket
import subprocess
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioning.asterisk.instance import START_TIMEOUT_S, start_command, write_configuration
from provisioning.asterisk.render import INSIDE
from provisioning.asterisk.settings import (
    AsteriskSettings,
    CarrierDialplan,
    FrontDoor,
    NodeDialplan,
    PortRange,
    TlsListener,
    TrunkPeer,
)
from tests.ansible.front_door.network import COMMAND_TIMEOUT_S, Host, until

NODE_PORT = 5080
WAV_HEADER_BYTES = 44
RTP_PORTS = PortRange(first=20_000, last=20_099)
# What a worker would do: answers and talks back. A node's own dialplan needs workers, which these tests do without.
ECHO_DIALPLAN = "[general]\n[incoming]\nexten = _X.,1,Answer()\n same = n,Echo()\n"
BUSY_DIALPLAN = "[general]\n[incoming]\nexten = _X.,1,Hangup(34)\n"
# A caller that says 1004 Hz and keeps what it hears; its own words are not in it.
CALLER_DIALPLAN = (
    "[general]\n[incoming]\nexten = _X.,1,Answer()\n same = n,Echo()\n"
    "[caller]\nexten = tone,1,Set(FILE=/srv/recordings/${UNIQUEID})\n"
    " same = n,MixMonitor(${FILE}.mix.wav,r(${FILE}.heard.wav))\n same = n,Milliwatt()\n"
)


@dataclass(slots=True, kw_only=True)
class Pbx:
    """A running Asterisk on a host."""

    host: Host
    settings: AsteriskSettings
    process: subprocess.Popen[bytes]

    def cli(self, command: str) -> str:
        """What its console says."""
        argv = ["nsenter", "--target", str(self.pid), "--mount", "--root", "--wd"]
        argv += ["/usr/sbin/asterisk", "-C", f"{INSIDE}/etc/asterisk.conf", "-rx", command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False).stdout

    @property
    def pid(self) -> int:
        """Asterisk itself, below the shell and the namespace's init."""
        pid = self.process.pid
        while Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip() != "asterisk":
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()[0])
        return pid

    def calls(self) -> int:
        """Channels it has now."""
        match = re.search(r"(\d+) active channel", self.cli("core show channels count"))
        return int(match.group(1)) if match is not None else 0

    def processed(self) -> int:
        """Calls it ever had."""
        match = re.search(r"(\d+) calls? processed", self.cli("core show channels count"))
        return int(match.group(1)) if match is not None else 0

    def ring(self, number: str, *, uri: str) -> None:
        """Call `number` at `uri` and say a tone."""
        self.cli(f"channel originate PJSIP/node/sip:{number}@{uri} extension tone@caller")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)

    def loudness(self) -> float:
        """How loud the latest half second is that callers hear, 0 to 1; of the quietest call."""
        found = [_loudness(path) for path in self.settings.recordings_directory.glob("*.heard.wav")]
        return min(found, default=0.0)

    def heard_bytes(self) -> int:
        """How much of the quietest call is recorded."""
        return min((path.stat().st_size for path in self.settings.recordings_directory.glob("*.heard.wav")), default=0)


def _loudness(path: Path) -> float:
    samples = array("h", path.read_bytes()[WAV_HEADER_BYTES:][-8_000:])
    return max(map(abs, samples), default=0) / 32_768


def node_settings(
    directory: Path, *, address: str, nodes: tuple[str, ...], vip: str, trunks: tuple[TrunkPeer, ...]
) -> AsteriskSettings:
    """A node behind the front door, as in production."""
    return AsteriskSettings(
        name="node",
        directory=directory,
        dialplan=NodeDialplan(stasis_apps=("calls-1",)),
        sip_host=address,
        sip_port=NODE_PORT,
        http_port=8088,
        rtp_ports=RTP_PORTS,
        peers=trunks,
        front_door=FrontDoor(address=vip, hosts=nodes),
    )


def carrier_settings(
    directory: Path, *, address: str, node: TrunkPeer, tls: TlsListener | None = None
) -> AsteriskSettings:
    """A carrier that calls the VIP as its trunk `node`."""
    return AsteriskSettings(
        name="carrier",
        directory=directory,
        dialplan=CarrierDialplan(),
        sip_host=address,
        sip_port=5060,
        http_port=8088,
        rtp_ports=RTP_PORTS,
        peers=(node,),
        tls=tls,
    )


@contextmanager
def asterisk(
    host: Host, image: Path, settings: AsteriskSettings, dialplan: str, files: Mapping[str, bytes] | None = None
) -> Iterator[Pbx]:
    """Run one until the end of the block; `files` go beside its settings."""
    write_configuration(settings)
    etc = settings.directory / "etc"
    (etc / "extensions.conf").write_text(dialplan, encoding="utf-8")
    with (etc / "modules.conf").open("a", encoding="utf-8") as modules:
        modules.write("load = app_echo.so\nload = res_clioriginate.so\n")
    for name, content in (files or {}).items():
        (etc / name).write_bytes(content)
        (etc / name).chmod(0o644)
    notify = settings.directory / "run" / "notify"
    notify.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(notify))
        notify.chmod(0o666)
        with (settings.directory / "log" / "output.log").open("wb") as output:
            process = subprocess.Popen(
                host.command(*start_command(image, settings)),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NOTIFY_SOCKET": f"{INSIDE}/run/notify", "TERM": "dumb"},
            )
        try:
            _wait_until_ready(ready, process, settings)
            yield Pbx(host=host, settings=settings, process=process)
        finally:
            process.kill()
            process.wait(timeout=10)


def _wait_until_ready(ready: socket.socket, process: subprocess.Popen[bytes], settings: AsteriskSettings) -> None:
    def is_ready() -> bool:
        assert process.poll() is None, settings.log_file.read_text(encoding="utf-8", errors="replace")[-2000:]
        readable, _, _ = select.select([ready], [], [], 0.2)
        return bool(readable) and b"READY=1" in ready.recv(4096)

    until(is_ready, within_s=START_TIMEOUT_S, what=f"asterisk {settings.name} is ready")
