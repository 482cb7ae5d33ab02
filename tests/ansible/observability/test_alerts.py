"""Every alert fires when it should, is silent when it should be, and says what to do about it."""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.ansible.observability.rendering import ROLE, ROOT

RULES = sorted((ROLE / "files" / "rules").glob("*.yml"))
# Everything is text here: to YAML, the twenty zeros of 0x20 are 32.
CASES: Mapping[str, Mapping[str, object]] = yaml.load(
    (Path(__file__).parent / "cases.yml").read_text("utf-8"),
    yaml.BaseLoader,  # noqa: S506 - it makes nothing but text
)
RUNBOOKS = ROOT / "docs" / "runbooks"
SEVERITIES = {"critical", "warning", "none"}
PROMTOOL = shutil.which("promtool") or ""

needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed: apt-get install prometheus")


def alerts() -> dict[str, tuple[Path, Mapping[str, Mapping[str, str]]]]:
    """All alerts of the role by name, with the file they are in."""
    return {
        rule["alert"]: (path, rule)
        for path in RULES
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


ALERTS = alerts()


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=300, check=False)


@needs_promtool
def test_the_rules_are_sound() -> None:
    done = promtool("check", "rules", "--lint-fatal", *RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_and_every_case_an_alert() -> None:
    assert CASES.keys() == ALERTS.keys()


@cache
def failures(rules: Path) -> str:
    """What promtool says of all cases of a file of rules; one run of it costs as much as one case."""
    cases = {name: CASES[name] for name, (path, _) in ALERTS.items() if path == rules and name in CASES}
    tests = [
        _test(name, case, which, int(str(case.get("count", 1))) if which == "fires" else 0)
        for name, case in cases.items()
        for which in ("fires", "quiet")
        if which in case
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests}, file)
        file.flush()
        done = promtool("test", "rules", file.name)
    assert (done.returncode == 0) == ("FAILED" not in done.stdout + done.stderr), done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize("name", sorted(ALERTS))
def test_it_fires_when_it_should_and_only_then(name: str) -> None:
    said = failures(ALERTS[name][0])
    assert f'alertname=\\"{name}\\"' not in said, said


def _test(name: str, case: Mapping[str, object], which: str, count: int) -> Mapping[str, object]:
    series = case[which]
    assert isinstance(series, Mapping)
    firing = f'count(ALERTS{{alertname="{name}", alertstate="firing"}}) or vector(0)'
    return {
        "name": f"{name} {which}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": firing, "eval_time": case["at"], "exp_samples": [{"labels": "{}", "value": count}]}
        ],
    }


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_it_says_how_bad_it_is_what_it_saw_and_where_to_read_on(name: str) -> None:
    _, rule = ALERTS[name]
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"]["summary"]
    assert (ROOT / rule["annotations"]["runbook"]).is_file()


def test_every_page_of_the_runbook_is_about_an_alert() -> None:
    pages = {path.relative_to(ROOT).as_posix() for path in RUNBOOKS.glob("*.md") if path.name != "README.md"}
    assert pages == {rule["annotations"]["runbook"] for _, rule in ALERTS.values()}


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_its_page_names_it_and_tells_the_four_things(name: str) -> None:
    _, rule = ALERTS[name]
    page = (ROOT / rule["annotations"]["runbook"]).read_text("utf-8")
    assert page.startswith(f"# {name}\n")
    sections = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert sections == ["What callers notice", "Look first", "Mend", "Escalate"]
