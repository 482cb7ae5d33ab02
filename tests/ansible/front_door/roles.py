"""Renders the roles' templates as Ansible would: the same Jinja settings, the roles' own defaults."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import yaml

ROLES = Path(__file__).resolve().parents[3] / "ansible" / "roles"


def render(role: str, template: str, variables: Mapping[str, Any]) -> str:
    """The text of a template. Defaults that are templates themselves are resolved first, as far as they need."""
    environment = jinja2.Environment(
        trim_blocks=True, keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=False
    )
    environment.filters |= {"bool": _is_true, "flatten": lambda lists: list(itertools.chain.from_iterable(lists))}
    environment.tests |= {"search": lambda text, pattern: re.search(pattern, text) is not None}
    values: dict[str, Any] = {
        **_own(role, "defaults"),
        **_own(role, "vars"),
        "ansible_managed": "by Ansible",
        **variables,
    }
    for _ in range(4):
        values = {name: _resolved(environment, value, values) for name, value in values.items()}
    text = (ROLES / role / "templates" / template).read_text(encoding="utf-8")
    return environment.from_string(text).render(values)


def _is_true(value: object) -> bool:
    return str(value).lower() in {"true", "yes", "1"}


def _own(role: str, folder: str) -> dict[str, Any]:
    path = ROLES / role / folder / "main.yml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.is_file() else {}


def _resolved(environment: jinja2.Environment, value: Any, values: Mapping[str, Any]) -> Any:
    if not _is_template(value) or any(map(_is_template, map(values.get, _names(environment, value)))):
        return value
    expression = value.strip()
    if expression.count("{{") == 1 and expression.startswith("{{") and expression.endswith("}}"):
        try:
            return environment.compile_expression(expression[2:-2].strip(), undefined_to_none=False)(**values)
        except jinja2.UndefinedError:
            return value
    return environment.from_string(value).render(values)


def _is_template(value: object) -> bool:
    return isinstance(value, str) and "{{" in value


def _names(environment: jinja2.Environment, value: str) -> set[str]:
    return jinja2.meta.find_undeclared_variables(environment.parse(value))
