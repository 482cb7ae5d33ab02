"""`borough node`: what this machine is, and how it comes into its region and out of it.

Commands of other packages that belong here plug in as entry points of the group `borough.node_commands`.
"""

from importlib.metadata import EntryPoint, entry_points

import click

from provisioning.node.cli.identity import enroll_node, init_hub, renew_certificates
from provisioning.node.cli.render import render
from provisioning.node.cli.rotation import drain, status, undrain
from provisioning.node.cli.self_test import self_test

ENTRY_POINT_GROUP = "borough.node_commands"


class NodeGroup(click.Group):
    """Finds the commands of other packages when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_plugged()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        entry_point = _plugged().get(cmd_name)
        if own is not None or entry_point is None:
            return own
        command = entry_point.load()
        assert isinstance(command, click.Command), f"{entry_point.value} is no click command"
        return command


def _plugged() -> dict[str, EntryPoint]:
    return {entry_point.name: entry_point for entry_point in entry_points(group=ENTRY_POINT_GROUP)}


@click.group(cls=NodeGroup)
def node() -> None:
    """This machine as a node of its region: enrol, render, test, drain; and the tokens to enrol with."""


for command in (render, init_hub, enroll_node, renew_certificates, drain, undrain, self_test, status):
    node.add_command(command)
