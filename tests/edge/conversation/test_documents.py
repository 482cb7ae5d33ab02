"""Mistakes in documents are named with file, line, key and what would be right."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.documents_source import DocumentProblem
from edge.conversation.cli import agent as agent_command
from edge.conversation.documents import load_agents
from edge.conversation.validation import problems_in

TENANTS = Path(__file__).parents[3] / "edge/tenants"

TENANT = """\
apiVersion: borough/v1
kind: Tenant
metadata: {name: shop}
spec:
  title: Shop
  tools:
    lookup:
      arguments: {order: {kind: digits, digits: 6}}
      returns: [status]
"""
FLOW = """\
apiVersion: borough/v1
kind: Flow
metadata: {name: order}
spec:
  title: order
  slots:
    order: {kind: digits, digits: 6}
  steps:
    - ask: {slot: order, prompt: Your order number please.}
    - tool: {name: lookup, arguments: {order: "{order}"}, filler: One moment., failed: No luck.}
    - finish: "It is {status}."
"""
AGENT = """\
apiVersion: borough/v1
kind: Agent
metadata: {name: line}
spec:
  greeting: Hello.
  human: sip:desk@shop.local
  phrases:
    not_known: I don't know.
    not_understood: Pardon?
    transfer_failed: {busy: Busy., no_answer: Nobody., unreachable: Nobody.}
    no_input: Hello?
    silence_goodbye: Bye.
    goodbye: Bye.
  intents:
    track:
      flow: order
      examples: [where is my order]
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "tenant.yaml").write_text(TENANT)
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "agent.yaml").write_text(AGENT)
    return tmp_path


def test_a_minimal_tenant_is_good(directory: Path) -> None:
    """The documents these tests break are right as they stand."""
    assert problems_in(directory) == ()
    (agent,) = load_agents(directory)
    assert (agent.tenant, agent.name, list(agent.flows)) == ("shop", "line", ["order"])


@pytest.mark.parametrize("tenant", ["harbour-bank", "volt-electronics"])
def test_the_example_tenants_are_good(tenant: str) -> None:
    """What we ship validates."""
    assert problems_in(TENANTS / tenant) == ()


@pytest.mark.parametrize(
    ("file", "right", "wrong", "line", "key", "says"),
    [
        ("agent.yaml", "greeting:", "greting:", 5, "spec.greting", "did you mean 'greeting'?"),
        ("agent.yaml", "kind: Agent", "kind: Agnet", 2, "kind", "did you mean 'Agent'?"),
        ("agent.yaml", "borough/v1", "borough/v9", 1, "apiVersion", "borough/v1"),
        ("agent.yaml", "sip:desk@shop.local", "not a uri", 6, "spec.human", "pattern"),
        ("agent.yaml", "flow: order", "flow: ordr", 16, "spec.intents.track.flow", "did you mean 'order'?"),
        (
            "agent.yaml",
            "examples: [where is my order]",
            "examples: []",
            17,
            "spec.intents.track.examples",
            "at least 1",
        ),
        ("agent.yaml", "flow: order", "flow: order\n      goodbye: true", 15, "spec.intents.track", "exactly one of"),
        ("agent.yaml", "  greeting: Hello.\n", "", 4, "spec.greeting", "required"),
        ("flow.yaml", "kind: digits, digits: 6", "kind: digit, digits: 6", 7, "spec.slots.order.kind", "'digits'"),
        ("flow.yaml", "slot: order,", "slot: ordre,", 9, "spec.steps.0.ask.slot", "did you mean 'order'?"),
        ("flow.yaml", "prompt: Your", "promt: Your", 9, "spec.steps.0.ask.promt", "did you mean 'prompt'?"),
        ("flow.yaml", "name: lookup", "name: lokup", 10, "spec.steps.1.tool.name", "did you mean 'lookup'?"),
        ("flow.yaml", "{status}", "{statu}", 11, "spec.steps.2", "did you mean 'status'?"),
        ("flow.yaml", "{status}", "{status", 11, "spec.steps.2", "braces"),
        ("flow.yaml", "{status}", "{status:euros}", 11, "spec.steps.2", "unknown style"),
        ("tenant.yaml", "title: Shop", "title: Shop\n  timezone: Mars/Base", 6, "spec.timezone", "not a time zone"),
        ("tenant.yaml", "title: Shop", "title: Shop\n  title: Two", 6, "title", "given twice"),
        ("tenant.yaml", "title: Shop", "title: [Shop", 6, "tenant.yaml", "expected"),
        ("tenant.yaml", "title: Shop", "title: *name", 5, "tenant.yaml", "aliases"),
        ("tenant.yaml", "title: Shop", "title: !!python/object:os.system x", 5, "tenant.yaml", "constructor"),
        ("tenant.yaml", "digits: 6", "digits: 0", 8, "spec.tools.lookup.arguments.order.digits", "greater than"),
    ],
)
def test_a_mistake_is_named(  # noqa: PLR0917 (a row of the table)
    directory: Path, file: str, right: str, wrong: str, line: int, key: str, says: str
) -> None:
    """Every kind of mistake leads to the line that has it."""
    path = directory / file
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong, 1))
    found = problems_in(directory)
    assert any(_is(problem, path, line, key, says) for problem in found), [str(problem) for problem in found]


def test_all_mistakes_are_listed_at_once(directory: Path) -> None:
    """Two wrong files give two problems."""
    for file in ("agent.yaml", "flow.yaml"):
        (directory / file).write_text((directory / file).read_text().replace("metadata:", "metdata:"))
    assert {problem.path.name for problem in problems_in(directory)} == {"agent.yaml", "flow.yaml"}


@pytest.mark.parametrize("text", ["", "# nothing\n", "- a list\n", "just text\n", "\x00\x01", "a: b: c\n", "{" * 40])
def test_a_file_that_is_no_document(directory: Path, text: str) -> None:
    """Empty, binary and foreign files are problems, not crashes."""
    (directory / "agent.yaml").write_text(text)
    assert [problem.path.name for problem in problems_in(directory)] == ["agent.yaml"]


def test_an_empty_directory(tmp_path: Path) -> None:
    """No documents at all is a problem."""
    assert "no *.yaml" in str(problems_in(tmp_path)[0])


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.integers(min_value=0, max_value=len(AGENT)))
def test_any_damage_is_a_problem_or_none(tmp_path_factory: pytest.TempPathFactory, junk: str, position: int) -> None:
    """Whatever is written into a document, loading gives an agent or a list of problems."""
    directory = tmp_path_factory.mktemp("tenant")
    (directory / "tenant.yaml").write_text(TENANT)
    (directory / "flow.yaml").write_text(FLOW)
    (directory / "agent.yaml").write_text(
        AGENT[:position] + junk + AGENT[position:], encoding="utf-8", errors="replace"
    )
    assert problems_in(directory) or load_agents(directory)


def test_knowledge_is_checked_too(directory: Path) -> None:
    """A broken row names its line; an answer without its value names the intent."""
    knowledge = directory / "items.csv"
    knowledge.write_text("id,version,title,answer,price\na,1,A,An A.,5\nb,zero,B,A B.,6\n")
    source = "  knowledge: [{name: items, file: items.csv, mention: the thing}]\n  intents:\n"
    price = '    price: {item: items, answer: "{prise}", examples: [how much is the thing]}\n'
    (directory / "agent.yaml").write_text(AGENT.replace("  intents:\n", source + price))
    assert "items.csv:3" in str(problems_in(directory)[0])
    knowledge.write_text("id,version,title,answer,price\na,1,A,An A.,5\n")
    assert "'prise'" in str(problems_in(directory)[0])


def test_the_command_prints_all_problems_and_exits_with_2(directory: Path) -> None:
    """Operators and scripts see the same list."""
    runner = CliRunner()
    assert runner.invoke(agent_command, ["validate", str(directory)]).exit_code == 0
    (directory / "agent.yaml").write_text(AGENT.replace("greeting", "greting"))
    failed = runner.invoke(agent_command, ["validate", str(directory)])
    assert (failed.exit_code, "did you mean 'greeting'?" in failed.stderr) == (2, True)
    as_json = runner.invoke(agent_command, ["validate", "--json", str(directory)])
    assert (as_json.exit_code, '"line": 5' in as_json.stdout) == (2, True)


def _is(problem: DocumentProblem, path: Path, line: int, key: str, says: str) -> bool:
    return (problem.path, problem.line, problem.key) == (
        path,
        line,
        key,
    ) and says in f"{problem.message} {problem.hint}"
