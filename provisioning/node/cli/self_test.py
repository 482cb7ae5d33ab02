"""`borough node self-test`."""

import asyncio
import json
import logging
from dataclasses import asdict
from pathlib import Path

import click

from provisioning.node.cli.options import json_option, root_option
from provisioning.node.errors import SelfTestFailedError
from provisioning.node.inputs import Inputs
from provisioning.node.machine import INFERENCE_SOCKET, SECRETS, Machine
from provisioning.node.rotation import CordonReason, Rotation
from provisioning.node.self_test.call_checks import CallChecks
from provisioning.node.self_test.checks import Check, Finding, Outcome, run
from provisioning.node.self_test.machine_checks import MachineChecks
from provisioning.node.self_test.network_checks import NetworkChecks
from provisioning.node.self_test.sibling_checks import SiblingChecks
from provisioning.node.self_test.speech_check import SpeechCheck

COLOURS = {Outcome.PASSED: "green", Outcome.FAILED: "red", Outcome.WARNED: "yellow", Outcome.SKIPPED: "yellow"}


@click.command("self-test")
@click.option("--admit", is_flag=True, help="If all passed: take calls, unless the node was drained.")
@click.option("--only", "names", multiple=True, metavar="CHECK", help="Only this check; repeat.")
@click.option(
    "--patience",
    type=click.FloatRange(min=1),
    default=1.0,
    show_default=True,
    help="Give each check so many times its time: for emulated machines.",
)
@root_option
@json_option
def self_test(admit: bool, names: tuple[str, ...], patience: float, root: Path, as_json: bool) -> None:
    """Check that this node can take calls; nothing is changed. Fails if any check does."""
    # nats-py ends TLS in a way that asyncio warns of; it stands between the findings else.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    inputs = Inputs(Machine(root))
    checks = _checks(inputs, patience)
    unknown = sorted(set(names) - {check.name for check in checks})
    if unknown:
        known = ", ".join(check.name for check in checks)
        raise click.BadParameter(f"there is no check {unknown[0]!r}; there are {known}", param_hint="--only")
    chosen = [check for check in checks if not names or check.name in names]
    findings = asyncio.run(run(chosen, (lambda _: None) if as_json else _print, patience))
    failed = [finding.name for finding in findings if finding.outcome is Outcome.FAILED]
    admitted = bool(admit and not failed and not names and Rotation(inputs.machine).open(CordonReason.UNTESTED))
    if as_json:
        click.echo(
            json.dumps(
                {"passed": not failed, "admitted": admitted, "checks": [asdict(finding) for finding in findings]}
            )
        )
    if failed:
        raise SelfTestFailedError(f"failed: {', '.join(failed)}")
    if not as_json:
        click.echo("passed" + ("; this node takes calls now" if admitted else ""))


def _checks(inputs: Inputs, patience: float) -> list[Check]:
    node, machine = inputs.node(), inputs.machine
    calls = CallChecks(node=node, password_file=machine.at(SECRETS) / "ari")
    return [
        *MachineChecks(inputs, node).all(),
        *NetworkChecks(node, inputs.identity()).all(),
        *SpeechCheck(machine.at(INFERENCE_SOCKET), patience).all(),
        *SiblingChecks(inputs, node).all(),
        *calls.all(),
    ]


def _print(finding: Finding) -> None:
    click.secho(f"{finding.outcome:<8}", fg=COLOURS[finding.outcome], nl=False)
    click.echo(f"{finding.name:<16}{finding.detail} ({finding.took_s:.1f} s)")
    if finding.advice:
        click.echo(f"        {'':<16}{finding.advice}")
