"""Enrolment and renewal of a node against a real hub."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
from click.testing import Result
from cryptography import x509

from provisioning.identity.names import NODE_ROLES, ServiceRole
from provisioning.node.enrolment.renew import Machinery, renew
from provisioning.node.enrolment.requests import new_keys
from provisioning.node.errors import EnrolmentError
from provisioning.node.identity_folder import IdentityFolder
from provisioning.node.inputs import Inputs
from provisioning.node.machine import CURRENT_BUNDLE, DESCRIPTION, IDENTITY, RENDERED, Machine
from tests.provisioning.node.enrolment.real_hub import RealHub, real_hub, run

# All tests share a hub, each has nodes of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealHub]:
    with pytest.MonkeyPatch.context() as patch:
        # Rendering as a user who may not give files away.
        patch.setattr(os, "geteuid", lambda: 1000)
        async with real_hub(tmp_path_factory.mktemp("hub")) as running:
            yield running


def _machine(hub: RealHub, root: Path, number: int) -> Machine:
    machine = Machine(root)
    machine.at(DESCRIPTION).parent.mkdir(parents=True)
    own = f'name = "in-south-{number}"\naddress = "10.20.0.{number}"\n'
    machine.at(DESCRIPTION).write_text(
        f'kind = "node"\n[machine]\n{own}[region]\nname = "in-south"\n[[region.nodes]]\n{own}'
        f'[hub]\naddress = "127.0.0.1"\nenrolment_port = {hub.enrolment_port}\nrenewal_port = {hub.renewal_port}\n'
        f"[calls]\ncapacity = 28\n"
    )
    # As Ansible leaves it.
    machine.at(IDENTITY).mkdir(mode=0o700)
    return machine


async def _enroll(machine: Machine, token: str, *options: str) -> Result:
    file = machine.root / "token"
    file.write_text(f"{token}\n")
    return await run("node", "enroll", "--root", str(machine.root), "--token-file", str(file), *options)


async def test_a_machine_becomes_a_node(hub: RealHub, tmp_path: Path) -> None:
    """Keys of its own, certificates of the authority, the roster; the hub lets it in once it has rendered again."""
    machine = _machine(hub, tmp_path / "node", 1)
    token = await hub.token("in-south-1")
    result = await _enroll(machine, token)
    assert result.output == "enrolled as in-south-1 in in-south\n", (result.output, hub.log.read_text())
    folder = IdentityFolder(machine.at(IDENTITY))
    assert folder.roles() == list(NODE_ROLES)
    root = x509.load_pem_x509_certificate(folder.authority.read_bytes())
    for role in NODE_ROLES:
        files = folder.current(role)
        x509.load_pem_x509_certificate(files.certificate.read_bytes()).verify_directly_issued_by(root)
        assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
        assert stat.S_IMODE(files.key.parent.stat().st_mode) == 0o700
    assert not list((hub.machine.root / "var/lib/borough/identity/in-south").rglob("*.key"))
    rendered = await run("node", "render", "--root", str(machine.root))
    assert rendered.exit_code == 0, rendered.output
    assert "borough://in-south/in-south-1/leaf/1" not in hub.nats_conf()
    assert "changed  /etc/borough/rendered/nats.conf" in await hub.render()
    assert "borough://in-south/in-south-1/leaf/1" in hub.nats_conf()
    again = await _enroll(machine, token)
    assert again.output == "enrolled already as in-south-1 in in-south\n"
    assert token.split(".")[2] not in "".join(
        path.read_text() for path in machine.root.rglob("*") if path.is_file() and path.name != "token"
    )


async def test_a_token_that_is_no_good_changes_nothing(hub: RealHub, tmp_path: Path) -> None:
    """Used, unknown, of another region's node, damaged: each is refused with the hub's code, and audited there."""
    first, second = _machine(hub, tmp_path / "one", 2), _machine(hub, tmp_path / "two", 3)
    used = await hub.token("in-south-2")
    assert (await _enroll(first, used)).exit_code == 0
    version, number, secret, fingerprint = (await hub.token("in-south-4")).split(".")
    for token, code in (
        (used, "enrolment.token_"),
        (f"{version}.{number}.{secret}.{fingerprint}", "enrolment.token_foreign"),
        (f"{version}.{number}.{'x' * len(secret)}.{fingerprint}", "enrolment.token_unknown"),
        ("bo1.half.a", "node.enrolment"),
    ):
        refused = await _enroll(second, token)
        assert refused.exit_code == 1
        assert code in refused.stderr, refused.stderr
        assert "hint: " in refused.stderr
        assert secret not in refused.stderr
        assert not IdentityFolder(second.at(IDENTITY)).is_enrolled
        assert list(second.at(IDENTITY).iterdir()) == []


async def test_the_secret_is_sent_to_nobody_but_the_hub_of_the_token(hub: RealHub, tmp_path: Path) -> None:
    """Somebody else's hub, and somebody with no TLS: the token stays unused."""
    machine, token = _machine(hub, tmp_path / "node", 5), await hub.token("in-south-5")
    foreign = token[:-4] + ("0000" if not token.endswith("0000") else "1111")
    refused = await _enroll(machine, foreign)
    assert "the token was not sent" in refused.stderr
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        refused = await _enroll(machine, token, "--hub", f"127.0.0.1:{port}")
    assert "cannot be reached" in refused.stderr
    assert token.split(".")[2].encode() not in heard
    assert (await _enroll(machine, token)).exit_code == 0


async def test_a_rebuilt_machine_takes_the_place_of_the_lost_one(hub: RealHub, tmp_path: Path) -> None:
    """With a token that replaces; what the lost one had is valid no more."""
    lost, rebuilt = _machine(hub, tmp_path / "lost", 6), _machine(hub, tmp_path / "rebuilt", 6)
    assert (await _enroll(lost, await hub.token("in-south-6"))).exit_code == 0
    refused = await _enroll(rebuilt, await hub.token(""))
    assert "enrolment.name_taken" in refused.stderr
    assert (await _enroll(rebuilt, await hub.token("in-south-6", "--replace"))).exit_code == 0
    await hub.render()
    assert "in-south-6/leaf/2" in hub.nats_conf()
    assert "in-south-6/leaf/1" not in hub.nats_conf()
    anew = await _enroll(lost, await hub.token("in-south-6", "--replace"), "--anew")
    assert anew.output == "enrolled as in-south-6 in in-south\n"


async def test_nodes_that_joined_together_learn_of_each_other_from_the_hub(hub: RealHub, tmp_path: Path) -> None:
    """Before the region's JetStream can bring a bundle: it needs servers that let each other in."""
    one, two = _machine(hub, tmp_path / "one", 11), _machine(hub, tmp_path / "two", 12)
    assert (await _enroll(one, await hub.token("in-south-11"))).exit_code == 0
    assert (await _enroll(two, await hub.token("in-south-12"))).exit_code == 0
    config = one.at(RENDERED) / "nats.conf"
    await run("node", "render", "--root", str(one.root))
    assert "in-south-12" not in config.read_text()
    asked = await run("node", "render", "--ask-hub", "--root", str(one.root))
    assert asked.stderr == ""
    assert "borough://in-south/in-south-12/agent/1" in config.read_text()
    assert (await run("node", "render", "--ask-hub", "--root", str(one.root))).output == "changed: 0\n"
    text = one.at(DESCRIPTION).read_text()
    one.at(DESCRIPTION).write_text(text.replace(f"renewal_port = {hub.renewal_port}", "renewal_port = 1"))
    alone = await run("node", "render", "--ask-hub", "--root", str(one.root))
    assert alone.exit_code == 0
    assert "cannot be reached" in alone.stderr


def _bundle(machine: Machine, version: int) -> None:
    """As the agent does when a bundle came."""
    (machine.at(CURRENT_BUNDLE).parent / "bundles" / str(version)).mkdir(parents=True, exist_ok=True)
    machine.at(CURRENT_BUNDLE).unlink(missing_ok=True)
    machine.at(CURRENT_BUNDLE).symlink_to(f"bundles/{version}")


async def test_a_role_of_a_newer_release_comes_with_the_next_renewal(
    hub: RealHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that enrolled before there was the role `inference` renews although its certificates are good for long."""
    machine = _machine(hub, tmp_path / "node", 13)
    older = tuple(role for role in NODE_ROLES if role is not ServiceRole.INFERENCE)
    with monkeypatch.context() as patch:
        patch.setattr("provisioning.node.enrolment.enroll.new_keys", lambda: new_keys(older))
        await _enroll(machine, await hub.token("in-south-13"))
    folder = IdentityFolder(machine.at(IDENTITY))
    assert folder.roles() == list(older)
    waiting = await run("node", "renew", "--within", "0.5", "--root", str(machine.root))
    assert "has not come within" in waiting.stderr
    assert folder.roles() == list(older)
    version = folder.staged_version()
    assert version is not None
    _bundle(machine, version)
    done = await run("node", "renew", "--root", str(machine.root))
    assert done.output == "renewed: 180 days left\n", done.stderr
    assert {held.role: held.generation for held in folder.held()} == dict.fromkeys(older, 2) | {
        ServiceRole.INFERENCE: 1
    }
    certificate = x509.load_pem_x509_certificate(folder.current(ServiceRole.INFERENCE).certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "inference.in-south-13.in-south.borough" in names.get_values_for_type(x509.DNSName)
    rest = await run("node", "renew", "--root", str(machine.root))
    assert rest.output == "nothing to renew: 180 days left\n"


async def test_certificates_are_renewed_while_both_are_valid(hub: RealHub, tmp_path: Path) -> None:
    """New keys; they are used once the region knows them; then the old ones are valid no more."""
    machine = _machine(hub, tmp_path / "node", 7)
    await _enroll(machine, await hub.token("in-south-7"))
    await run("node", "render", "--root", str(machine.root))
    early = await run("node", "renew", "--root", str(machine.root))
    assert early.output == "nothing to renew: 180 days left\n"
    folder = IdentityFolder(machine.at(IDENTITY))
    old_key = folder.current(ServiceRole.AGENT).key.read_bytes()
    waiting = await run("node", "renew", "--now", "--within", "0.5", "--root", str(machine.root))
    assert waiting.exit_code == 1
    assert "has not come within" in waiting.stderr
    assert folder.current(ServiceRole.AGENT).key.read_bytes() == old_key
    await hub.render()
    assert "in-south-7/leaf/1" in hub.nats_conf()
    assert "in-south-7/leaf/2" in hub.nats_conf()
    version = folder.staged_version()
    assert version is not None
    _bundle(machine, version)
    # Goes on where it stopped, also without --now.
    done = await run("node", "renew", "--root", str(machine.root))
    assert done.output == "renewed: 180 days left\n", done.output
    assert folder.current(ServiceRole.AGENT).key.read_bytes() != old_key
    assert {held.generation for held in folder.held()} == {2}
    assert not (machine.at(IDENTITY) / "agent" / "1").exists()
    assert "in-south-7/agent/2" in (machine.at(RENDERED) / "nats.conf").read_text()
    await hub.render()
    assert "in-south-7/leaf/1" not in hub.nats_conf()


async def test_a_service_that_does_not_start_anew_gets_the_old_certificates_back(hub: RealHub, tmp_path: Path) -> None:
    """Nothing is confirmed; the next attempt goes on with what is staged."""
    machine = _machine(hub, tmp_path / "node", 8)
    await _enroll(machine, await hub.token("in-south-8"))
    inputs, seen = Inputs(machine), []
    folder = inputs.identity()

    async def restart() -> list[str]:
        seen.append(folder.held()[0].generation)
        if seen == [0, 2]:
            raise EnrolmentError("borough-nats does not start")
        return ["borough-nats"]

    async def render() -> None:
        seen.append(0)

    # No bundle is newer than this.
    _bundle(machine, 999_999)
    machinery = Machinery(restart=restart, render=render)
    with pytest.raises(EnrolmentError, match="does not start"):
        await renew(inputs.node(), inputs, machinery, 5.0)
    assert seen == [0, 2, 1]
    assert {held.generation for held in folder.held()} == {1}
    done = await renew(inputs.node(), inputs, machinery, 5.0)
    assert seen == [0, 2, 1, 0, 2, 0]
    assert {held.generation for held in done.certificates} == {2}
    assert done.restarted == ("borough-nats",)


async def test_the_hub_renews_its_own(hub: RealHub) -> None:
    """By root, on its machine; its addresses stay."""
    folder = IdentityFolder(hub.machine.at(IDENTITY))
    before = x509.load_pem_x509_certificate(folder.current(ServiceRole.CONTROLPLANE).certificate.read_bytes())
    done = await run("node", "renew", "--now", "--root", str(hub.machine.root))
    assert done.exit_code == 0, done.output
    after = x509.load_pem_x509_certificate(folder.current(ServiceRole.CONTROLPLANE).certificate.read_bytes())
    assert before.serial_number != after.serial_number
    names = [c.extensions.get_extension_for_class(x509.SubjectAlternativeName).value for c in (before, after)]
    assert names[0].get_values_for_type(x509.IPAddress) == names[1].get_values_for_type(x509.IPAddress)
    assert {held.generation for held in folder.held()} == {2}
    assert "hub/hub-1/controlplane/1" not in hub.nats_conf()
    assert min(held.expires_in_days(datetime.now(UTC)) for held in folder.held()) > 179


async def test_a_second_init_changes_nothing(hub: RealHub) -> None:
    """Neither authority nor admin; the admin's key lies in no other place."""
    root = hub.machine.root
    before = {path: path.read_bytes() for path in root.rglob("*.pem") if path.is_file()}
    again = await run("node", "init-hub", "--root", str(root))
    assert again.output.startswith("unchanged")
    assert all(path.read_bytes() == content for path, content in before.items())
    key = (root / "etc/borough/admin/key.pem").read_bytes()
    assert [path for path in root.rglob("key.pem") if path.read_bytes() == key] == [root / "etc/borough/admin/key.pem"]
    assert stat.S_IMODE((root / "etc/borough/admin").stat().st_mode) == 0o700
