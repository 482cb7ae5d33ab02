"""`borough agent`: check a tenant's documents before they go live."""

import json
import sys
from pathlib import Path

import click

from edge.conversation.errors import DocumentProblem
from edge.conversation.validation import problems_in

# Stable: 0 all documents are good, 2 at least one problem.
EXIT_PROBLEMS = 2


@click.group()
def agent() -> None:
    """Agents of a tenant."""


@agent.command()
@click.argument("directories", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the problems as a JSON list.")
def validate(directories: tuple[Path, ...], as_json: bool) -> None:
    """Check the documents and the knowledge of tenants; exit status 2 if there are problems."""
    problems = [problem for directory in directories for problem in problems_in(directory)]
    if as_json:
        print(json.dumps([_as_json(problem) for problem in problems], indent=2))
    else:
        for problem in problems:
            click.echo(str(problem), err=True)
        if not problems:
            click.echo(f"{len(directories)} tenant{'s' if len(directories) > 1 else ''} checked, no problems")
    if problems:
        sys.exit(EXIT_PROBLEMS)


def _as_json(problem: DocumentProblem) -> dict[str, object]:
    return {
        "file": str(problem.path),
        "line": problem.line,
        "key": problem.key,
        "message": problem.message,
        "hint": problem.hint,
    }
