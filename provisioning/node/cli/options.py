"""Options that commands share."""

from pathlib import Path

import click

root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("/"),
    show_default=True,
    help="Where the machine's files lie.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
