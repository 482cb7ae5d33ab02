"""`borough agent`: check a tenant's documents before they go live, and try them in writing."""

import asyncio
import json
import sys
from pathlib import Path

import click

from contract.documents_source import DocumentProblem
from edge.call.ports import Priority, Purpose
from edge.conversation.conversation import AgentConversation
from edge.conversation.dialogue import EndCall, Escalate, Reply, RunTool, ToolResult
from edge.conversation.documents import load_agents
from edge.conversation.validation import problems_in

# Stable: 0 all documents are good, 2 at least one problem.
EXIT_PROBLEMS = 2


@click.group()
def agent() -> None:
    """Agents of a tenant."""


@agent.command()
@click.argument("directories", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the problems as a JSON list.")
def validate(directories: tuple[Path, ...], as_json: bool) -> None:
    """Check the documents and the knowledge of tenants; exit status 2 if there are problems."""
    problems = [problem for directory in directories for problem in problems_in(directory)]
    if as_json:
        print(json.dumps([_as_json(problem) for problem in problems], indent=2))
    else:
        for problem in problems:
            click.echo(str(problem), err=True)
        if not problems:
            click.echo(f"{len(directories)} tenant{'s' if len(directories) > 1 else ''} checked, no problems")
    if problems:
        sys.exit(EXIT_PROBLEMS)


@agent.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--models", type=click.Path(path_type=Path), default=Path(".state/models"), help="Where the models lie.")
def chat(directory: Path, models: Path) -> None:
    """Talk to the first agent of a tenant in writing; digits alone are keys pressed. Ends with the call, or Ctrl-D."""
    problems = problems_in(directory)
    if problems:
        for problem in problems:
            click.echo(str(problem), err=True)
        sys.exit(EXIT_PROBLEMS)
    asyncio.run(_chat(directory, models))


async def _chat(directory: Path, models: Path) -> None:
    # Only this command needs a model in its own process.
    from edge.conversation.calibrate import local_embedder  # noqa: PLC0415 (loads the inference libraries)

    conversation = await AgentConversation.load(load_agents(directory)[0], local_embedder(models), cache=None)
    purpose = Purpose(tenant=directory.name, call_id="chat", priority=Priority.LIVE, budget_s=1.0)
    reply = _shown(conversation.opening())
    for line in sys.stdin:
        heard = line.strip()
        if heard.isdigit():
            reply = _shown(await conversation.digits(reply.state, heard, purpose))
        else:
            reply = _shown(await conversation.respond(reply.state, heard, purpose))
        if isinstance(reply.action, RunTool):
            # No side effects from a terminal: what a caller hears when the system is down.
            down = ToolResult(tool=reply.action.tool, error="tool_not_configured")
            reply = _shown(await conversation.after_tool(reply.state, down))
        if isinstance(reply.action, EndCall | Escalate):
            return


def _shown(reply: Reply) -> Reply:
    print(f"[{reply.understanding.intent} {reply.understanding.confidence:.2f}]", end=" ")
    print(*(speech.text for speech in reply.speeches))
    if reply.action is not None:
        print(f"[{type(reply.action).__name__}]")
    return reply


def _as_json(problem: DocumentProblem) -> dict[str, object]:
    return {
        "file": str(problem.path),
        "line": problem.line,
        "key": problem.key,
        "message": problem.message,
        "hint": problem.hint,
    }
