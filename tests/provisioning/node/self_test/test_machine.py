"""The checks of the machine itself, and how checks are run and shown."""

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from provisioning.node.cli import node
from provisioning.node.errors import SelfTestFailedError
from provisioning.node.inputs import Inputs
from provisioning.node.machine import CORDON, CURRENT_BUNDLE, MODELS, SYNC, VAR, Machine
from provisioning.node.self_test.checks import Check, CheckFailedError, CheckSkippedError, Outcome, run
from provisioning.node.self_test.machine_checks import MachineChecks, _is_mounted_read_only
from tests.provisioning.node.conftest import ADDRESSES, Enrolled

Make = Callable[..., Enrolled]
REAL_MODELS = Path(__file__).resolve().parents[4] / ".state" / "models"


@pytest.fixture
def machine(enrolled: Make, tmp_path: Path) -> Machine:
    """A node that has all that it needs but services."""
    made = enrolled(*ADDRESSES).machine(tmp_path / "root")
    for name in ("records", "keys"):
        folder = made.at(VAR / name)
        folder.mkdir(parents=True)
        folder.chmod(0o2770)
    bundle = made.at(SYNC) / "bundles" / "7"
    (bundle / "volt-electronics").mkdir(parents=True)
    (made.at(SYNC) / "knowledge").mkdir()
    (made.at(SYNC) / "knowledge" / "volt-electronics.db").touch()
    made.at(CURRENT_BUNDLE).symlink_to("bundles/7")
    made.at(VAR / "prepared").mkdir()
    (made.at(VAR / "prepared") / "ab.pcm").touch()
    made.at(CORDON).parent.mkdir(parents=True)
    return made


def _checks(machine: Machine) -> MachineChecks:
    inputs = Inputs(machine)
    return MachineChecks(inputs, inputs.node())


async def test_a_node_with_everything_passes(machine: Machine) -> None:
    """Each says in a few words what it found."""
    checks = _checks(machine)
    assert await checks.folders() == "records and keys can be written"
    assert "good for 1" in await checks.certificates()
    assert await checks.bundle() == "bundle 7, 1 tenants"
    assert await checks.knowledge() == "of 1 of 1 tenants"
    assert await checks.prepared_audio() == "1 clips"
    assert "GB are free" in await checks.disk()


async def test_what_is_missing_is_named_with_what_to_do(machine: Machine) -> None:
    """One after the other is taken away."""
    checks = _checks(machine)
    machine.at(VAR / "records").chmod(0o700)
    with pytest.raises(CheckFailedError, match="has mode 700, not 2770") as failed:
        await checks.folders()
    assert "systemd-tmpfiles" in failed.value.advice
    (machine.at(VAR / "prepared") / "ab.pcm").unlink()
    with pytest.raises(CheckFailedError, match="no clip"):
        await checks.prepared_audio()
    machine.at(CURRENT_BUNDLE).unlink()
    with pytest.raises(CheckFailedError, match="no bundle yet"):
        await checks.bundle()
    with pytest.raises(CheckSkippedError):
        await checks.prepared_audio()
    shutil.rmtree(machine.at(Path("/etc/borough/identity")))
    with pytest.raises(CheckFailedError, match="not enrolled") as failed:
        await checks.certificates()
    assert "enroll" in failed.value.advice


async def test_a_damaged_model_is_found_by_its_hash(machine: Machine) -> None:
    """One bit is enough."""
    if not REAL_MODELS.is_dir():
        pytest.skip("no models here: make setup")
    checks = _checks(machine)
    machine.at(MODELS).mkdir()
    for name in checks.node.models.all:
        shutil.copytree(REAL_MODELS / name, machine.at(MODELS) / name, copy_function=os.link)
    assert "5 models" in await checks.models()
    victim = next(machine.at(MODELS / "silero-vad").glob("*.onnx"))
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.unlink()
    victim.write_bytes(bytes(content))
    [finding] = await run([check for check in checks.all() if check.name == "models"], lambda _: None)
    assert finding.outcome is Outcome.FAILED
    assert "sha256" in finding.detail


def test_a_read_only_mount_is_found(tmp_path: Path) -> None:
    """The deepest mount counts, as the first process sees it."""
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "36 22 8:2 / /var/lib/borough ro,relatime shared:2 - ext4 /dev/sdb1 ro\n"
    )
    assert _is_mounted_read_only(Path("/var/lib/borough/records"), table)
    assert not _is_mounted_read_only(Path("/var/lib/other"), table)


async def test_a_check_that_hangs_fails_and_the_others_still_run() -> None:
    """Bounded in time, each of them."""

    async def hang() -> str:
        await asyncio.Event().wait()
        return "never"

    async def answer() -> str:
        return "fine"

    checks = [
        Check(name="one", within_s=0.05, ask=hang, advice="look at one"),
        Check(name="two", within_s=1, ask=answer, advice=""),
    ]
    one, two = await run(checks, lambda _: None)
    assert (one.outcome, one.advice) == (Outcome.FAILED, "look at one")
    assert two.outcome is Outcome.PASSED


def _run(machine: Machine, *arguments: str) -> tuple[dict[str, object], object]:
    result = CliRunner().invoke(node, ["self-test", "--json", "--root", str(machine.root), *arguments])
    return json.loads(result.stdout), result.exception


def test_a_failed_self_test_admits_no_calls(machine: Machine) -> None:
    """Nothing runs on this machine; the cordon of the boot stays."""
    machine.at(CORDON).touch()
    document, error = _run(machine, "--admit")
    assert document["passed"] is False
    assert isinstance(error, SelfTestFailedError)
    assert "inference" in str(error)
    assert machine.at(CORDON).exists()
    findings = {finding["name"]: finding for finding in document["checks"]}  # type: ignore[attr-defined]
    assert findings["certificates"]["outcome"] == "passed"
    assert findings["asterisk"]["advice"]


def test_parts_of_a_self_test_admit_no_calls(machine: Machine) -> None:
    """--only is for looking."""
    machine.at(CORDON).touch()
    document, error = _run(machine, "--admit", "--only", "bundle", "--only", "certificates")
    assert (document["passed"], document["admitted"], error) == (True, False, None)
    assert machine.at(CORDON).exists()
