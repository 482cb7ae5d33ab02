"""Checks a tenant's directory whole: documents, knowledge, and whether the two fit together."""

from collections.abc import Mapping
from pathlib import Path

from contract.documents_source import DocumentProblem
from edge.conversation.agent import Agent
from edge.conversation.documents import load_agents
from edge.conversation.errors import DocumentsInvalidError
from edge.conversation.template import placeholders
from edge.knowledge.errors import KnowledgeInvalidError
from edge.knowledge.items import Item, load_items


def problems_in(directory: Path) -> tuple[DocumentProblem, ...]:
    """Return every problem of a tenant's documents and knowledge files, none if it can go live."""
    try:
        agents = load_agents(directory)
    except DocumentsInvalidError as error:
        return error.problems
    return tuple(problem for agent in agents for problem in _knowledge_problems(agent))


def _knowledge_problems(agent: Agent) -> list[DocumentProblem]:
    problems: list[DocumentProblem] = []
    files = {source.name: source.path for source in agent.sources if source.path is not None}
    items: dict[str, tuple[Item, ...]] = {}
    for name, path in files.items():
        try:
            items[name] = load_items(path, name)
        except KnowledgeInvalidError as error:
            problems.append(_in_file(error))
    seen: dict[str, str] = {}
    for name, path in files.items():
        problems += [
            _about(path, item.id, f"the id is also used in {seen[item.id]!r}")
            for item in items.get(name, ())
            if seen.setdefault(item.id, name) != name
        ]
    return problems + _template_problems(agent, items, files)


def _template_problems(
    agent: Agent, items: Mapping[str, tuple[Item, ...]], files: Mapping[str, Path]
) -> list[DocumentProblem]:
    """Answers about items must find their values in at least one item of the source."""
    problems: list[DocumentProblem] = []
    for intent in agent.intents:
        if intent.item is None or intent.item not in items:
            continue
        known = {name for item in items[intent.item] for name in item.attributes}
        for answer in intent.answers:
            needed = [*(place.name for place in placeholders(answer.text)), *answer.when]
            problems += [
                _about(files[intent.item], intent.name, f"intent {intent.name!r} needs {name!r}, which no item has")
                for name in needed
                if name not in known
            ]
    return problems


def _in_file(error: KnowledgeInvalidError) -> DocumentProblem:
    return DocumentProblem(path=error.path, line=error.line, key=error.path.name, message=error.message)


def _about(path: Path, key: str, message: str) -> DocumentProblem:
    return DocumentProblem(path=path, line=1, key=key, message=message)
