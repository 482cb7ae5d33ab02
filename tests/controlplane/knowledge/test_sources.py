"""Items come from files, folders of Markdown and feeds; only what changed is sent again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from contract.knowledge_items import as_json_line, parse_items
from controlplane.knowledge import uploading
from controlplane.knowledge.errors import KnowledgeSourceError
from controlplane.knowledge.markdown import parse_markdown
from controlplane.knowledge.sources import Source, SourceReader, source_at, sources_in
from controlplane.knowledge.uploading import Uploader, watch

ROOT = Path(__file__).parents[3]
GUIDE = """---
version: 3
valid_until: 2026-12-31
---
# Returns

You can **return** anything within [thirty days](https://x.example).

## Refunds
aliases: money back | refund
questions: when do I get my money
valid_from: 2026-02-01

- Refunds take `five` days.
* They go to your card.

## Empty
"""
LINES = '{"id": "a", "version": 1, "title": "A", "answer": "It is A."}\n'


@pytest.fixture
async def reader() -> AsyncIterator[SourceReader]:
    async with aiohttp.ClientSession() as session:
        yield SourceReader(session=session)


def test_headings_become_items() -> None:
    """With the facts of the file and their own, and spoken without signs."""
    returns, refunds = parse_markdown(GUIDE, "help/returns", "guides")
    assert (returns.id, returns.title, returns.version) == ("help-returns-returns", "Returns", 3)
    assert returns.answer == "You can return anything within thirty days."
    assert refunds.answer == "Refunds take five days. They go to your card."
    assert refunds.aliases == ("money back", "refund")
    assert refunds.questions == ("when do I get my money",)
    assert (refunds.valid_from, refunds.valid_until) == (date(2026, 2, 1), date(2026, 12, 31))


def test_a_file_without_headings_is_one_item() -> None:
    """Named after the file."""
    (item,) = parse_markdown("Open every day.\n", "hours", "guides")
    assert (item.id, item.title, item.answer) == ("hours", "hours", "Open every day.")


def test_an_item_comes_back_from_its_line() -> None:
    """What is uploaded is what was read."""
    items = parse_markdown(GUIDE, "help", "guides")
    assert parse_items("\n".join(map(as_json_line, items)), "jsonl", "guides") == items


async def test_a_tenants_folder_names_its_sources(reader: SourceReader) -> None:
    """The files of the example's agents."""
    tenant, sources = sources_in(ROOT / "edge/tenants/volt-electronics")
    assert tenant == "volt-electronics"
    assert sorted(source.name for source in sources) == ["products", "store"]
    for source in sources:
        assert await reader.read(source)


def test_more_sources_are_listed_in_a_file(tmp_path: Path) -> None:
    """Folders and feeds, beside the documents."""
    (tmp_path / "tenant.yaml").write_text("kind: Tenant\nmetadata: {name: shop}\n")
    (tmp_path / "knowledge").mkdir()
    listed = tmp_path / "knowledge/sources.toml"
    listed.write_text('[guides]\nfolder = "guides"\n[offers]\nurl = "https://shop.example/o.jsonl"\n')
    tenant, sources = sources_in(tmp_path)
    assert tenant == "shop"
    assert sources[0] == Source(name="guides", path=tmp_path / "knowledge/guides")
    assert sources[1] == Source(name="offers", url="https://shop.example/o.jsonl")
    for wrong in ('[x]\nfile = "a"\nurl = "https://b"\n', "[x]\n", '[x]\nplace = "y"\n', "x", '[X]\nfile = "a"\n'):
        listed.write_text(wrong)
        with pytest.raises(KnowledgeSourceError):
            sources_in(tmp_path)


@pytest.mark.parametrize("text", ["", "not json\n", '{"id": "a"}\n'])
async def test_a_broken_file_is_named(reader: SourceReader, tmp_path: Path, text: str) -> None:
    """With its line."""
    path = tmp_path / "items.jsonl"
    path.write_text(text)
    with pytest.raises(KnowledgeSourceError, match=r"items\.jsonl:1"):
        await reader.read(Source(name="x", path=path))


@pytest.mark.parametrize("place", ["none.jsonl", "none.txt", "."])
async def test_what_cannot_be_read_is_told(reader: SourceReader, tmp_path: Path, place: str) -> None:
    """A missing file, an unknown kind, a folder without Markdown."""
    with pytest.raises(KnowledgeSourceError):
        await reader.read(source_at("x", str(tmp_path / place)))


class Feed:
    """An HTTP feed that knows its version."""

    def __init__(self) -> None:
        self.text = LINES
        self.version = 1
        self.answers: list[int] = []

    async def answer(self, request: web.Request) -> web.Response:
        tag = f'"{self.version}"'
        unchanged = request.headers.get("If-None-Match") == tag
        status = 304 if unchanged else 200
        self.answers.append(status)
        return web.Response(status=status, text="" if unchanged else self.text, headers={"ETag": tag})


@pytest.fixture
async def feed() -> AsyncIterator[tuple[Feed, Source]]:
    """A feed on a free port."""
    made = Feed()
    app = web.Application()
    app.router.add_get("/offers.jsonl", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield made, Source(name="offers", url=f"http://127.0.0.1:{port}/offers.jsonl")
    await runner.cleanup()


async def test_a_feed_is_read_only_when_it_changed(reader: SourceReader, feed: tuple[Feed, Source]) -> None:
    """By its ETag."""
    served, source = feed
    first = await reader.read(source)
    assert first is not None
    assert first[0].id == "a"
    assert await reader.read(source) is None
    served.version = 2
    assert await reader.read(source) is not None
    assert served.answers == [200, 304, 200]
    reader.forget()
    assert await reader.read(source) is not None


async def test_a_feed_that_fails_is_told(reader: SourceReader, feed: tuple[Feed, Source]) -> None:
    """Another status, or nobody there."""
    _, source = feed
    with pytest.raises(KnowledgeSourceError):
        await reader.read(Source(name="x", url=f"{source.url}-missing"))
    with pytest.raises(KnowledgeSourceError):
        await reader.read(Source(name="x", url="http://127.0.0.1:1/x"))


async def test_only_the_difference_is_sent_again(reader: SourceReader, tmp_path: Path) -> None:
    """First everything, then a patch, then nothing."""
    path = tmp_path / "items.jsonl"
    path.write_text(LINES + LINES.replace('"a"', '"b"'))
    uploader = Uploader("shop", [Source(name="x", path=path)], reader)
    header, content = await uploader.requests()
    assert (header.header.tenant, header.header.source, header.header.is_patch) == ("shop", "x", False)
    assert len(content.jsonl.splitlines()) == 2
    assert await uploader.requests() == []
    path.write_text(LINES.replace("It is A.", "It is B.") + LINES.replace('"a"', '"c"'))
    header, content = await uploader.requests()
    assert header.header.is_patch
    assert list(header.header.removals) == ["b"]
    assert [item.id for item in parse_items(content.jsonl.decode(), "jsonl", "x")] == ["a", "c"]
    uploader.forget()
    assert not (await uploader.requests())[0].header.is_patch


async def test_changes_are_taken_when_they_are_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several writes are one build; other files are none."""
    monkeypatch.setattr(uploading, "DEBOUNCE_MS", 200)
    path = tmp_path / "items.jsonl"
    path.write_text(LINES)
    acted = asyncio.Event()
    count = 0

    async def act() -> None:
        nonlocal count
        count += 1
        acted.set()

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch([Source(name="x", path=path)], act, every_s=60))
        # The watch needs a moment to begin; it is there once a write is noticed.
        async with asyncio.timeout(10):
            while not acted.is_set():
                path.write_text(LINES)
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.6)
        count = 0
        (tmp_path / "other.txt").write_text("x")
        acted.clear()
        for _ in range(5):
            path.write_text(LINES)
            await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            await acted.wait()
        await asyncio.sleep(0.6)
        watching.cancel()
    assert count == 1


async def test_feeds_are_looked_at_now_and_then() -> None:
    """Nobody tells us when they change."""
    acted = asyncio.Event()

    async def act() -> None:
        acted.set()

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch([Source(name="x", url="http://127.0.0.1:1/")], act, every_s=0.05))
        async with asyncio.timeout(10):
            await acted.wait()
        watching.cancel()
