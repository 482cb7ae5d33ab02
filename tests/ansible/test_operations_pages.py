"""The pages of docs/operations name playbooks and commands that exist; tests/region follows them."""

import re
from pathlib import Path

import click
import pytest

from edge.cli import borough
from tests.region.pages import ANSIBLE, PAGES, blocks_of

# Pages in which something is looked up; the others say what to do.
REFERENCES = {"firewall", "services"}
NAMES = sorted({path.stem for path in PAGES.glob("*.md")} - REFERENCES)
MOST_LINES = 110


@pytest.mark.parametrize("page", NAMES)
def test_a_page_is_short_and_has_commands(page: str) -> None:
    assert all(blocks_of(page))
    assert blocks_of(page)
    assert len((PAGES / f"{page}.md").read_text("utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("page", NAMES)
def test_its_playbooks_exist(page: str) -> None:
    text = (PAGES / f"{page}.md").read_text("utf-8")
    named = set(re.findall(r"playbooks/([\w-]+\.yml)", text))
    assert {name for name in named if not (ANSIBLE / "playbooks" / name).is_file()} == set()


@pytest.mark.parametrize("page", NAMES)
def test_its_commands_exist(page: str) -> None:
    text = (PAGES / f"{page}.md").read_text("utf-8")
    for line in re.findall(r"(?:^\$ (?:ssh \S+ )?|`)borough ([^`\n]+)", text, re.MULTILINE):
        assert is_command(line.split()), f"borough {line}"


@pytest.mark.parametrize("page", NAMES)
def test_its_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (PAGES / f"{page}.md").read_text("utf-8"))
    assert [link for link in links if not (PAGES / Path(link)).exists()] == []


def is_command(words: list[str]) -> bool:
    """Whether the command exists and has the options that are given."""
    command: click.Command | None = borough
    while isinstance(command, click.Group):
        if not words or words[0].startswith("-"):
            if not command.invoke_without_command:
                return False
            break
        command = command.get_command(click.Context(command), words.pop(0))
    if command is None:
        return False
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return all(word.partition("=")[0] in known for word in words if word.startswith("-"))
