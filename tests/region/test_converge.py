"""What is done already is not done again: a second run of every playbook, and a dry one, on a region that serves."""

import re

import pytest

from provisioning.machines.machine import Machine
from provisioning.machines.plays import PlayOutcome
from provisioning.machines.region import RegionRehearsal
from tests.region.pages import Reader

_RECAP = re.compile(r"^(?P<host>\S+) +: ok=\d+ +changed=(?P<changed>\d+)", re.MULTILINE)
# Certificates are good for half a year: none is due.
NONE_DUE = ("-e", "rotate_below_days=1")
STATE = (
    "sha256sum /etc/borough/identity/*/current/certificate.pem; readlink /opt/borough/current;"
    " systemctl show --property=MainPID borough-calls@1 borough-nats borough-agent borough-litestream"
)


def assert_nothing_changed(outcome: PlayOutcome) -> None:
    """It was successful, and 0 changed on every machine."""
    outcome.expect_success()
    print(f"seconds by machine: {outcome.seconds}")  # noqa: T201 - the figures that are asked for
    assert outcome.changed
    assert set(outcome.changed.values()) == {0}, outcome.output


@pytest.mark.parametrize(("page", "plays"), [("install-a-region", 4), ("recover", 1)])
def test_a_page_followed_again_changes_nothing(region: RegionRehearsal, page: str, plays: int) -> None:
    """A region as its own pages make it: preflight, hub, nodes, and these dry; the hub again, as after its loss."""
    printed = Reader(region=region).follow(page)
    assert printed.count("PLAY RECAP") == plays
    assert {recap["host"]: recap["changed"] for recap in _RECAP.finditer(printed) if recap["changed"] != "0"} == {}


@pytest.mark.parametrize(
    ("playbook", "options"),
    [("upgrade", ()), ("rotate-certs", NONE_DUE), ("secrets", ())],
    ids=str,
)
def test_another_run_changes_nothing(region: RegionRehearsal, playbook: str, options: tuple[str, ...]) -> None:
    """The release is there already, no certificate is due, the secrets are made."""
    assert_nothing_changed(region.player.play(playbook, *options))


@pytest.mark.parametrize("playbook", ["hub", "preflight", "upgrade", "rotate-certs", "secrets"])
def test_a_dry_run_finds_nothing(region: RegionRehearsal, playbook: str) -> None:
    """`--check` runs through, and says that nothing would change; that of region.yml is on its page."""
    assert_nothing_changed(region.player.play(playbook, "--check"))


@pytest.mark.parametrize("playbook", ["rebuild-node", "decommission"])
def test_a_dry_run_does_nothing(region: RegionRehearsal, nodes: list[Machine], playbook: str) -> None:
    """What is always a change can be tried too, and the node serves on as it did."""
    node = nodes[-1]
    certificate = region.inventory / "certificates" / f"{node.place.name}.json"
    before, certified = node.run("sh", "-c", STATE), certificate.exists() and certificate.stat().st_mtime_ns
    region.player.play(playbook, "--check", "-e", f"node={node.place.name}").expect_success()
    assert node.run("sh", "-c", STATE) == before
    assert (certificate.exists() and certificate.stat().st_mtime_ns) == certified
