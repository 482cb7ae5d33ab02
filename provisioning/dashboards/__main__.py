"""`python -m provisioning.dashboards [--out DIR]`: write every dashboard as Grafana's JSON."""

import argparse
from pathlib import Path

from provisioning.dashboards.boards import read_dashboards
from provisioning.dashboards.grafana import render

FILES = Path(__file__).resolve().parents[2] / "ansible" / "roles" / "observability" / "files" / "dashboards"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m provisioning.dashboards", description=__doc__)
    parser.add_argument("--out", type=Path, default=FILES)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for dashboard in read_dashboards():
        (out / f"{dashboard.name}.json").write_text(render(dashboard), encoding="utf-8")


if __name__ == "__main__":
    main()
