"""Playbooks and roles are well formed; `make check` lints them."""

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ANSIBLE = Path(__file__).resolve().parents[2] / "ansible"
PLAYBOOKS = sorted(path.name for path in (ANSIBLE / "playbooks").glob("*.yml"))
ROLES = sorted(path.name for path in (ANSIBLE / "roles").iterdir() if path.is_dir())


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    programs = Path(sys.executable).parent
    return subprocess.run(
        [str(programs / argv[0]), *argv[1:]],
        cwd=ANSIBLE,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )


def test_every_playbook_can_be_read() -> None:
    """All of them at once, because the start of the program takes longest."""
    done = run(
        "ansible-playbook", "-i", "inventories/example", "--syntax-check", *(f"playbooks/{p}" for p in PLAYBOOKS)
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("role", ROLES)
def test_a_role_says_what_it_takes(role: str) -> None:
    """Every option of its defaults is in its argument specification, and nothing else is."""
    specs = yaml.safe_load((ANSIBLE / "roles" / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    options = {name for spec in specs["argument_specs"].values() for name in spec.get("options") or {}}
    defaults = ANSIBLE / "roles" / role / "defaults" / "main.yml"
    given = set(yaml.safe_load(defaults.read_text(encoding="utf-8")) or {}) if defaults.exists() else set()
    assert given - options == set()
    assert all(name.startswith((f"{role}_", "borough_")) for name in options)


def test_only_builtin_modules_are_used() -> None:
    """No collection can be downloaded where nodes are made."""
    names = {
        key
        for path in [*ANSIBLE.glob("roles/*/tasks/*.yml"), *ANSIBLE.glob("roles/*/handlers/*.yml")]
        for task in yaml.safe_load(path.read_text(encoding="utf-8")) or []
        for key in task
        if "." in key
    }
    assert {name.rpartition(".")[0] for name in names} == {"ansible.builtin"}


def entry_points(tasks: list[dict[str, Any]], folder: Path) -> Iterator[tuple[str, str]]:
    """Roles that tasks import, and what of them."""
    for task in tasks:
        for part in ("block", "rescue", "always"):
            yield from entry_points(task.get(part, []), folder)
        role = task.get("ansible.builtin.import_role")
        if role is not None:
            yield role["name"], role.get("tasks_from", "main")
        file = task.get("ansible.builtin.import_tasks")
        if file is not None:
            yield from entry_points(yaml.safe_load((folder / file).read_text(encoding="utf-8")), (folder / file).parent)


def does_something(role: str) -> bool:
    """Whether a handler of the role is more than a word that others listen to."""
    path = ANSIBLE / "roles" / role / "handlers" / "main.yml"
    handlers = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else []
    return any("ansible.builtin.debug" not in handler for handler in handlers)


@pytest.mark.parametrize("playbook", [name for name in PLAYBOOKS if name != "image.yml"])
def test_handlers_are_there_once(playbook: str) -> None:
    """A role that is imported at two entry points brings its handlers twice, and only the last of a name is called: a
    drain would come after the restarts that it is for."""
    for play in yaml.safe_load((ANSIBLE / "playbooks" / playbook).read_text(encoding="utf-8")):
        found = defaultdict(set)
        for role, entry in entry_points(play.get("tasks", []), ANSIBLE / "playbooks"):
            found[role].add(entry)
        assert {role for role, entries in found.items() if len(entries) > 1 and does_something(role)} == set()


def test_a_node_is_drained_before_anything_restarts() -> None:
    """Its role is imported before all whose handlers do something."""
    tasks = yaml.safe_load((ANSIBLE / "playbooks" / "tasks" / "node.yml").read_text(encoding="utf-8"))
    roles = [role for role, _ in entry_points(tasks, ANSIBLE / "playbooks" / "tasks") if does_something(role)]
    assert roles[0] == "draining"
