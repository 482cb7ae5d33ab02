"""Sentences with places to fill: `{name}` or `{name:style}`, style being money, digits or count."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edge.conversation.spoken import formatted

_PLACE = re.compile(r"\{([a-z][a-z0-9_]*)(?::([a-z]+))?\}")
STYLES = frozenset({"", "money", "digits", "count"})


class TemplateError(ValueError):
    """A template is malformed, or a value it needs is missing or unreadable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placeholder:
    name: str
    style: str


def placeholders(template: str) -> tuple[Placeholder, ...]:
    """Return the places of a template. Raises TemplateError for stray braces and unknown styles."""
    found = tuple(Placeholder(name=match[1], style=match[2] or "") for match in _PLACE.finditer(template))
    if set(_PLACE.sub("", template)) & {"{", "}"}:
        raise TemplateError("braces must enclose a lowercase name, as in {price:money}")
    for place in found:
        if place.style not in STYLES:
            raise TemplateError(f"unknown style {place.style!r}; one of money, digits, count")
    return found


def render(template: str, values: Mapping[str, str]) -> str:
    """Fill a template. Raises TemplateError when a value is missing or does not fit its style."""

    def fill(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if value is None or not value:
            raise TemplateError(f"no value for {match[1]!r}")
        try:
            return formatted(value, match[2] or "")
        except ValueError as error:
            raise TemplateError(str(error)) from error

    return _PLACE.sub(fill, template)
