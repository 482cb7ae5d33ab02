"""Alerts, dashboards and pages ask only for what exists, in PromQL that Prometheus takes."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from edge.cli import borough
from provisioning.dashboards.boards import read_dashboards
from provisioning.dashboards.grafana import render
from provisioning.dashboards.model import GRID_WIDTH
from tests.ansible.observability.catalogue import existing, metrics_in
from tests.ansible.observability.rendering import ROLE, ROOT

RUNBOOKS = ROOT / "docs" / "runbooks"
PAGES = sorted(RUNBOOKS.glob("*.md"))
# Programs of a machine: of the release, and of the Debian packages that the roles install.
PROGRAMS = {
    "borough", "chronyc", "date", "df", "du", "grep", "ip", "journalctl", "kamailio", "kamcmd", "ls", "mount", "nft",
    "promtool", "ss", "ssh", "systemctl", "systemd-cgtop", "tail", "timedatectl", "timeout", "top", "vmstat",
}  # fmt: skip
# What Grafana puts in place of its own variables.
VARIABLES = (("$__rate_interval", "5m"), ('=~"$node"', '=~".*"'), ('=~"$region"', '=~".*"'))


def rules() -> list[dict[str, str]]:
    groups = [
        group for path in (ROLE / "files/rules").glob("*.yml") for group in yaml.safe_load(path.read_text())["groups"]
    ]
    return [rule for group in groups for rule in group["rules"]]


def asked_by_dashboards() -> Iterator[tuple[str, str]]:
    for dashboard in read_dashboards():
        for panel in (panel for row in dashboard.rows for panel in row.panels):
            for query in panel.queries:
                promql = query.promql
                for variable, value in VARIABLES:
                    promql = promql.replace(variable, value)
                yield f"{dashboard.name}: {panel.title}", promql


def asked_by_pages() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for promql in re.findall(r"^\$ promtool query instant \S+ '(.*)'$", page.read_text("utf-8"), re.MULTILINE):
            yield page.name, promql


QUESTIONS = [*asked_by_dashboards(), *asked_by_pages()]


def test_the_names_in_an_expression_are_found() -> None:
    promql = (
        'sum by (le, a) (rate(x_bucket{stage="sent"}[15m] offset 1h)) / on () group_left () count(y:z) unless up == 0'
    )
    assert metrics_in(promql) == {"x_bucket", "y:z", "up"}


def test_every_metric_that_is_asked_for_exists() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {rule.get("alert", rule.get("record", "")): rule["expr"] for rule in rules()} | dict(QUESTIONS)
    known = existing() | recorded
    missing = {who: metrics_in(promql) - known for who, promql in asked.items() if metrics_in(promql) - known}
    assert not missing


def test_every_recorded_figure_is_used() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = [*(rule["expr"] for rule in rules()), *(promql for _, promql in QUESTIONS)]
    assert recorded <= {name for promql in asked for name in metrics_in(promql)}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
def test_prometheus_takes_every_question(tmp_path: Path) -> None:
    records = [{"record": f"question:{number}", "expr": promql} for number, (_, promql) in enumerate(QUESTIONS)]
    file = tmp_path / "questions.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "questions", "rules": records}]}), encoding="utf-8")
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dashboards_are_written_once(tmp_path: Path) -> None:
    """What is there already is not written again; a dry run writes nothing."""
    names = [dashboard.name for dashboard in read_dashboards()]

    def write(*options: str) -> str:
        argv = [sys.executable, "-m", "provisioning.dashboards", "--out", str(tmp_path), *options, *names]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout

    assert write("--check") == f"changed: {len(names)}\n"
    assert not list(tmp_path.iterdir())
    assert write() == f"changed: {len(names)}\n"
    assert write() == "changed: 0\n"
    written = {path.stem: path.read_text("utf-8") for path in tmp_path.glob("*.json")}
    assert written == {dashboard.name: render(dashboard) for dashboard in read_dashboards()}


def test_panels_do_not_lie_on_each_other_and_say_what_they_show() -> None:
    for dashboard in read_dashboards():
        panels = json.loads(render(dashboard))["panels"]
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken, panel["title"]
            assert at["x"] + at["w"] <= GRID_WIDTH
            taken |= cells
            assert panel["type"] == "row" or panel["description"]
        assert len({panel["id"] for panel in panels}) == len(panels)


def test_links_of_the_runbook_lead_somewhere() -> None:
    for page in PAGES:
        text = page.read_text("utf-8")
        assert not [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not (RUNBOOKS / link).is_file()], page.name
        named = re.findall(r"\bdocs/[\w/-]+\.md", text)
        assert not [path for path in named if not (ROOT / path).is_file()], page.name


def test_commands_of_the_runbook_exist() -> None:
    for page in PAGES:
        for line in re.findall(r"(?:^\$ |`)borough ([a-z -]+)", page.read_text("utf-8"), re.MULTILINE):
            assert _is_command(line.split()), f"{page.name}: borough {line}"


def test_programs_of_the_runbook_are_on_the_machines() -> None:
    used = {program for page in PAGES for program in re.findall(r"^\$ ([\w-]+)", page.read_text("utf-8"), re.MULTILINE)}
    assert used <= PROGRAMS


def _is_command(words: list[str]) -> bool:
    command: click.Command | None = borough
    for word in words:
        if not isinstance(command, click.Group):
            return True
        command = command.get_command(click.Context(command), word)
        if command is None:
            return False
    return not isinstance(command, click.Group)
