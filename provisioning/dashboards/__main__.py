"""`python -m provisioning.dashboards --out DIR NAME ...`: write dashboards as Grafana's JSON; say how many changed."""

import argparse
import sys
from pathlib import Path

from provisioning.dashboards.boards import read_dashboards
from provisioning.dashboards.grafana import render


def main() -> None:
    described = {dashboard.name: dashboard for dashboard in read_dashboards()}
    parser = argparse.ArgumentParser(prog="python -m provisioning.dashboards", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the files")
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("names", nargs="+", choices=sorted(described), metavar="NAME")
    options = parser.parse_args()
    changed = [name for name in options.names if _is_changed(options.out, name, render(described[name]))]
    if not options.check:
        for name in changed:
            (options.out / f"{name}.json").write_text(render(described[name]), encoding="utf-8")
    sys.stdout.write(f"changed: {len(changed)}\n")


def _is_changed(directory: Path, name: str, text: str) -> bool:
    path = directory / f"{name}.json"
    return not path.exists() or path.read_text(encoding="utf-8") != text


if __name__ == "__main__":
    main()
