"""Checks that the documents of one tenant fit together: every name leads somewhere, and nothing is there twice. Pure.

Templates and files are the node's to check: they need its readers.
"""

from collections.abc import Iterable, Sequence
from typing import TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from contract.documents import (
    AgentDocument,
    AgentSpec,
    FlowDocument,
    FlowSpec,
    PolicyDocument,
    StepPart,
    TenantDocument,
    ToolPart,
)
from contract.documents_shape import CheckedDocument, suggestion
from contract.documents_source import DocumentProblem, KeyPath, SourceDocument

_Document = TypeVar("_Document", AgentDocument, FlowDocument, PolicyDocument, TenantDocument)


def reference_problems(documents: Sequence[CheckedDocument]) -> list[DocumentProblem]:
    """Every name in a tenant's documents that leads nowhere. Expects exactly one Tenant among them."""
    checker = _Checker()
    flows = checker.named(documents, FlowDocument)
    policies = checker.named(documents, PolicyDocument)
    tools: dict[str, ToolPart] = {}
    for source, tenant in checker.named(documents, TenantDocument).values():
        tools |= tenant.spec.tools
        checker.time_zone(source, tenant.spec.timezone)
    for source, flow in flows.values():
        checker.flow(source, flow.spec, tools)
    for source, agent in checker.named(documents, AgentDocument).values():
        checker.agent(source, agent.spec, set(flows), set(policies))
    return checker.problems


def time_zone_problems(source: SourceDocument, zone: str) -> list[DocumentProblem]:
    """Whether `spec.timezone` is a time zone."""
    checker = _Checker()
    checker.time_zone(source, zone)
    return checker.problems


class _Checker:
    def __init__(self) -> None:
        self.problems: list[DocumentProblem] = []

    def named(
        self, documents: Sequence[CheckedDocument], kind: type[_Document]
    ) -> dict[str, tuple[SourceDocument, _Document]]:
        found: dict[str, tuple[SourceDocument, _Document]] = {}
        for entry in documents:
            if isinstance(entry.document, kind):
                name = entry.document.metadata.name
                if name in found:
                    message = f"a second {entry.document.kind} named {name!r}"
                    self.problems.append(entry.source.problem(("metadata", "name"), message))
                found[name] = (entry.source, entry.document)
        return found

    def time_zone(self, source: SourceDocument, zone: str) -> None:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
            self.problems.append(source.problem(("spec", "timezone"), f"{zone!r} is not a time zone"))

    def flow(self, source: SourceDocument, spec: FlowSpec, tools: dict[str, ToolPart]) -> None:
        known = set(spec.slots)
        returned: set[str] = {"title"}
        for index, step in enumerate(spec.steps):
            key: KeyPath = ("spec", "steps", index)
            self._slots(source, key, step, known)
            if step.tool is not None:
                self._name(source, (*key, "tool", "name"), step.tool.name, tools, "tool")
                tool = tools.get(step.tool.name)
                if tool is not None:
                    returned |= set(tool.returns)
                    for argument in step.tool.arguments:
                        place = (*key, "tool", "arguments", argument)
                        self._name(source, place, argument, tool.arguments, "argument")
            for slot in step.when:
                self._name(source, (*key, "when", slot), slot, known | returned, "slot")

    def _slots(self, source: SourceDocument, key: KeyPath, step: StepPart, known: set[str]) -> None:
        if step.ask is not None:
            self._name(source, (*key, "ask", "slot"), step.ask.slot, known, "slot")
        if step.confirm is not None:
            for slot in step.confirm.retry:
                self._name(source, (*key, "confirm", "retry"), slot, known, "slot")

    def agent(self, source: SourceDocument, spec: AgentSpec, flows: set[str], policies: set[str]) -> None:
        sources = {part.name for part in spec.knowledge}
        for name, intent in spec.intents.items():
            key: KeyPath = ("spec", "intents", name)
            for field, value, known, noun in (
                ("flow", intent.flow, flows, "flow"),
                ("knowledge", intent.knowledge, sources, "knowledge source"),
                ("item", intent.item, sources, "knowledge source"),
            ):
                if value is not None:
                    self._name(source, (*key, field), value, known, noun)
        if spec.policy is not None:
            self._name(source, ("spec", "policy"), spec.policy, policies, "policy")

    def _name(self, source: SourceDocument, key: KeyPath, name: str, known: Iterable[str], noun: str) -> None:
        names = sorted(known)
        if name not in names:
            allowed = f"one of {', '.join(names)}" if names else f"there is no {noun}"
            message = f"{name!r} is not a {noun}; {allowed}"
            self.problems.append(source.problem(key, message, suggestion(name, names)))
