"""Boots a disk image in an emulated machine and asks it whether it can become a node: the gate before it is used.

There is no hub: the machine has no certificates, no bundle and no tenants, and must not need them to pass. Asked is
what is the image's own: that it boots into a machine of its own, closed but for SSH, with exactly the packages and the
release that its manifest names; that what a node computes with works: models, recogniser, voice, encoder, Asterisk.
For the settings of these the trial writes the roster that enrolment would have brought.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioning.build_store.emulator import ADDRESS, HOST_ADDRESS, EmulatedMachine, Given, powered_on
from provisioning.build_store.errors import NodeImageError
from provisioning.build_store.manifest import Manifest, verify_store
from provisioning.build_store.node_image import IMAGE
from provisioning.build_store.wheels import Report

NODE = f"""kind = "node"
[machine]
name = "trial-1"
address = "{ADDRESS}"
[region]
name = "trial"
nodes = [{{name = "trial-1", address = "{ADDRESS}"}}]
[hub]
address = "{HOST_ADDRESS}"
[calls]
capacity = 1
workers = 1
"""
ROSTER = {
    "region": "trial",
    "nodes": [
        {
            "name": "trial-1",
            "address": ADDRESS,
            "state": "NODE_STATE_ACTIVE",
            "identities": [{"role": "agent", "uris": ["borough://trial/trial-1/agent/1"], "pins": ["0" * 64]}],
        }
    ],
}
SECRET = "0" * 64
# Checks of `borough node self-test` that need neither identity nor hub nor siblings.
CHECKS = ("disk", "folders", "models", "inference", "asterisk")
# An emulated processor is thirty times slower, and a busy build machine does the rest.
PATIENCE = 60
# Of an answer: the last ones say why it is not well.
_MOST_LINES = 4
_START = f"""
install -d -m 0700 /etc/borough/identity
cat > /etc/borough/identity/roster.json <<'END'
{json.dumps(ROSTER)}
END
if borough node render >/dev/null && systemctl start borough-asterisk borough-inference; then
    systemctl show --property=StatusText --value borough-inference
else
    journalctl -b -o cat -n {_MOST_LINES} -u borough-asterisk -u borough-inference
    false
fi
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of one question to the machine."""

    name: str
    is_passed: bool
    detail: str
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What the machine answered. `seconds_to_login` from power on."""

    seconds_to_login: float
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        return tuple(finding.name for finding in self.findings if not finding.is_passed)


def try_image(directory: Path, scratch: Path, report: Report, public_key: Path | None = None) -> TrialResult:
    """Check the files of an image's folder, boot it, and ask. `scratch` takes a copy of the image.

    Raises BuildError when the files are not what the manifest says, or nobody answers.
    """
    report("checking the image")
    manifest = verify_store(directory, public_key)
    image = directory / IMAGE
    # Some the one way, some the other: an operator may choose.
    given = Given(
        disk={"node.toml": NODE, "secrets/subjects": SECRET, "secrets/master": SECRET},
        credentials={"borough.secret.ari": SECRET},
    )
    with powered_on(image, given, scratch) as machine:
        report("booting")
        seconds = machine.wait_for_login()
        machine.wait_for_ssh()
        findings = []
        for name, question in questions(manifest, image.stat().st_size).items():
            report(f"asking: {name}")
            findings.append(_ask(machine, name, question))
        report("starting services, the self-test")
        findings += _self_test(machine)
    return TrialResult(seconds_to_login=seconds, findings=tuple(findings))


def questions(manifest: Manifest, image_bytes: int) -> dict[str, str]:
    """By name: shell lines that end with 0 when it is well, and print a few words in any case."""
    debian = sorted(f"{one.name} {one.version}\n" for one in manifest.packages if one.kind == "debian")
    packages = hashlib.sha256("".join(debian).encode()).hexdigest()
    return {
        # What has failed stands before the word.
        "system": "state=$(systemctl is-system-running --wait); systemctl list-units --failed --no-legend --plain; "
        "echo $state; test $state = running",
        "kernel": "uname -r -v",
        "disk has grown": f"findmnt -n -o SIZE,AVAIL / && test $(findmnt -n -b -o SIZE /) -gt {image_bytes}",
        "packages": 'dpkg --audit; test -z "$(dpkg --audit)" && dpkg-query -W | wc -l && dpkg-query -W '
        f"-f '${{Package}} ${{Version}}\\n' | LC_ALL=C sort | sha256sum | grep -q ^{packages}",
        "release": f"borough --version | grep -F {manifest.version} && /opt/borough/current/bin/python -m pip check",
        "own identity": "test -s /etc/machine-id && hostname && ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub "
        '&& test -z "$(ls -A /etc/borough/identity)"',
        "given files": "grep -c trial-1 /etc/borough/node.toml && cd /etc/borough/secrets && stat -c '%n %a' * && "
        "test \"$(stat -c %n%a * | xargs)\" = 'ari600 master600 subjects600'",
        "closed": "open=$(ss -Hltn | awk '{print $4}' | grep -v -e ^127 -e '^\\[::1' | sed 's/.*://' | sort -u | xargs)"
        '; echo "TCP $open" && test "$open" = 22 && nft list chain inet borough input | grep -q "policy drop"',
        "Asterisk's image": "chroot /var/lib/borough/images/asterisk /usr/sbin/asterisk -V",
    }


def _ask(machine: EmulatedMachine, name: str, question: str) -> Finding:
    answer = machine.ask(question)
    lines = [line.strip() for line in answer.text.splitlines() if line.strip()]
    detail = ", ".join(lines[-_MOST_LINES:])
    return Finding(name=name, is_passed=answer.status == 0, detail=detail or "no word", took_s=answer.took_s)


def _self_test(machine: EmulatedMachine) -> list[Finding]:
    started = _ask(machine, "services start", _START)
    if not started.is_passed:
        return [started]
    only = " ".join(f"--only {check}" for check in CHECKS)
    answer = machine.ask(f"borough node self-test --json --patience {PATIENCE} {only}")
    try:
        checks: list[dict[str, Any]] = json.loads(answer.text.splitlines()[0])["checks"]
    except (IndexError, KeyError, ValueError) as error:
        raise NodeImageError(f"the self-test does not answer: {answer.text[-2000:]}") from error
    return [
        started,
        *(
            Finding(
                name=f"self-test: {check['name']}",
                is_passed=check["outcome"] == "passed",
                detail=check["detail"],
                took_s=check["took_s"],
            )
            for check in checks
        ),
    ]
