"""What happens to running services when their files change; a script stands in for systemctl, nats-server is real."""

from datetime import UTC, datetime
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client

from provisioning.identity.names import ServiceRole
from provisioning.node.errors import RenderError
from provisioning.node.folder import Change
from provisioning.node.places import Service
from provisioning.node.reloading import restart_holders, take_over
from tests.nats_network import nats_network

SYSTEMCTL = """\
#!/bin/sh
# is-active --quiet UNIT | reload UNIT | restart UNIT
for unit; do :; done
echo "$1 $unit" >> "{log}"
case "$1 $unit" in
  "is-active borough-nats"|"is-active borough-agent"|"is-active borough-calls@1") exit 0 ;;
  "is-active "*) exit 3 ;;
  "reload borough-nats") kill -HUP "$(cat "{pid}")" ;;
  "restart borough-agent") exit {restarts} ;;
esac
"""


def _stand_in(folder: Path, pid: Path, monkeypatch: pytest.MonkeyPatch, restarts: int = 0) -> Path:
    program, log = folder / "bin" / "systemctl", folder / "systemctl.log"
    program.parent.mkdir()
    program.write_text(SYSTEMCTL.format(log=log, pid=pid, restarts=restarts))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return log


def _change(unit: str, name: str) -> Change:
    return Change(path=Path("/etc/borough/rendered") / name, unit=unit, before="a", after="b")


async def test_nats_is_reloaded_and_calls_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is gone from the configuration loses his connection; the agent starts anew, a worker is only named."""
    async with nats_network(tmp_path / "net", {"in-south": 1}) as network:
        server = network.node("in-south")
        instance = network.deployment.instance(server)
        log = _stand_in(tmp_path, instance.files.pid, monkeypatch)
        network.deployment.identities.revoke(f"in-south/{server.name}/calls")
        network.deployment.write(datetime.now(UTC))
        changes = [
            _change(Service.NATS, "nats.conf"),
            _change(Service.AGENT, "sync.toml"),
            _change(f"{Service.CALLS}@1", "calls-1.toml"),
            _change(f"{Service.CALLS}@2", "calls-2.toml"),
        ]
        taken = await take_over(changes, server.monitor_port)
        assert taken.reloaded == ("borough-nats",)
        assert taken.restarted == ("borough-agent",)
        assert taken.left == ("borough-calls@1",)
        assert "restart borough-calls@1" not in log.read_text()
        client = Client()
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await client.connect(
                f"tls://127.0.0.1:{server.client_port}",
                tls=network.context(server.service(ServiceRole.CALLS)),
                allow_reconnect=False,
                connect_timeout=5,
            )
        await client.close()


async def test_a_new_region_starts_the_hubs_server_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload would make its account, and let nothing pass from it; a new user of a known region is reloaded."""
    log = _stand_in(tmp_path, tmp_path / "pid", monkeypatch)
    known, both = '"LINK_in-south": {', '"LINK_in-south": { "LINK_eu-central": {'
    change = Change(path=Path("/etc/borough/rendered/nats.conf"), unit=Service.NATS, before=known, after=both)
    taken = await take_over([change], 1)
    assert (taken.reloaded, taken.restarted) == ((), ("borough-nats",))
    assert "restart borough-nats" in log.read_text()


async def test_a_change_that_cannot_be_taken_over_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nats-server goes on with the old configuration, and says so in its log only."""
    monkeypatch.setattr("provisioning.node.reloading.RELOADED_WITHIN_S", 1.5)
    async with nats_network(tmp_path / "net", {"in-south": 1}) as network:
        server = network.node("in-south")
        instance = network.deployment.instance(server)
        _stand_in(tmp_path, instance.files.pid, monkeypatch)
        instance.config.write_text(instance.config.read_text().replace('"in-south-1"', '"another-name"', 1))
        with pytest.raises(RenderError, match="goes on with its old configuration") as refused:
            await take_over([_change(Service.NATS, "nats.conf")], server.monitor_port)
    assert refused.value.hint == "systemctl restart borough-nats"


async def test_a_service_that_does_not_restart_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With where to look."""
    _stand_in(tmp_path, tmp_path / "pid", monkeypatch, restarts=1)
    with pytest.raises(RenderError, match="restart borough-agent") as failed:
        await restart_holders()
    assert "journalctl -u borough-agent" in failed.value.hint


async def test_without_systemd_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an image is made, or in a checkout."""
    monkeypatch.setenv("PATH", str(tmp_path))
    taken = await take_over([_change(Service.NATS, "nats.conf")], 1)
    assert (taken.reloaded, taken.restarted, taken.left) == ((), (), ())
