"""The `borough` command: finds its subcommands among the installed entry points and prints errors one way.

Exit codes: 0 done, 1 failed (the error says what to do), 2 wrong usage or invalid input, 130 interrupted.
"""

import json
from importlib.metadata import EntryPoint, entry_points

import click

from contract.errors import BoroughError

ENTRY_POINT_GROUP = "borough.commands"
EXIT_FAILED = 1


class PluggedGroup(click.Group):
    """A group whose commands are the entry points of `borough.commands`, imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._entry_points()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry_point = self._entry_points().get(cmd_name)
        if entry_point is None:
            return super().get_command(ctx, cmd_name)
        command = entry_point.load()
        assert isinstance(command, click.Command), f"{entry_point.value} is no click command"
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; every error of ours becomes one line on stderr (JSON with --json) and exit code 1."""
        wants_json = "--json" in ctx.args
        try:
            return super().invoke(ctx)
        except BoroughError as error:
            _show(error, wants_json=wants_json)
        except BaseExceptionGroup as group:
            ours, others = group.split(BoroughError)
            if ours is None or others is not None:
                raise
            _show(_first(ours), wants_json=wants_json)
        raise click.exceptions.Exit(EXIT_FAILED)

    @staticmethod
    def _entry_points() -> dict[str, EntryPoint]:
        return {entry_point.name: entry_point for entry_point in entry_points(group=ENTRY_POINT_GROUP)}


@click.group(cls=PluggedGroup)
@click.version_option(package_name="borough")
def borough() -> None:
    """Borough: a regional voice-AI appliance."""


def main() -> None:
    borough()


def _first(group: BaseExceptionGroup[BoroughError]) -> BoroughError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, BoroughError)
    return error


def _show(error: BoroughError, *, wants_json: bool) -> None:
    if wants_json:
        report = {"error": {"code": error.code, "message": str(error), "hint": error.hint}}
        click.echo(json.dumps(report), err=True)
        return
    click.secho(f"{error} [{error.code}]", fg="red", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
