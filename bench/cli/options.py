"""What the commands of `borough bench` share: options, scenarios, progress."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.errors import ScenarioError
from bench.scenario import Scenario, load_scenarios
from provisioning.local.layout import DEFAULT_STATE

SCENARIOS = Path(__file__).resolve().parents[1] / "scenarios"

state_option = click.option(
    "--state", type=click.Path(path_type=Path), default=DEFAULT_STATE, show_default=True, help="state folder"
)
json_option = click.option("--json", "as_json", is_flag=True, help="print JSON")


def load_all(files: Sequence[Path]) -> list[Scenario]:
    """The scenarios of the given files, or of all files of the project."""
    found = [scenario for file in files or sorted(SCENARIOS.glob("*.yaml")) for scenario in load_scenarios(file)]
    if not found:
        raise ScenarioError(f"{SCENARIOS} holds no scenario")
    return found


@contextmanager
def counting(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar; gives a function that takes how many of how many are done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=None)

        def advance(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        yield advance
