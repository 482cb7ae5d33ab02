"""Where an operator's items come from: files, folders of Markdown, HTTP feeds; read on the operator's machine.

The sources of a tenant are those that its Agent documents name with a file, and those of `knowledge/sources.toml`:

    [guides]
    folder = "guides"
    [offers]
    url = "https://shop.example/offers.jsonl"
"""

import asyncio
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import aiohttp
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter, ValidationError, model_validator

from contract.documents_source import read_documents
from contract.knowledge_items import FORMATS, Item, ItemError, parse_items
from contract.names import is_name
from controlplane.knowledge.errors import KnowledgeSourceError
from controlplane.knowledge.markdown import parse_markdown

SOURCES_FILE = Path("knowledge/sources.toml")
LARGEST_FEED_BYTES = 256 * 2**20
FEED_WITHIN_S = 60.0


class _Place(BaseModel):
    model_config = ConfigDict(extra="forbid")

    file: str | None = None
    folder: str | None = None
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+(/\S*)?$")] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> "_Place":
        if sum(place is not None for place in (self.file, self.folder, self.url)) != 1:
            raise ValueError("a source has exactly one of file, folder, url")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A named source; `path` is a file of items or a folder of Markdown, `url` a feed of JSON lines."""

    name: str
    path: Path | None = None
    url: str | None = None


@dataclass(kw_only=True)
class SourceReader:
    """Reads sources again and again; a feed that says it is unchanged is not read twice."""

    session: aiohttp.ClientSession
    _validators: dict[str, dict[str, str]] = field(default_factory=dict)

    async def read(self, source: Source) -> tuple[Item, ...] | None:
        """Return the items of a source, None if a feed is as it was. Raises KnowledgeSourceError."""
        if source.url is None:
            return await asyncio.to_thread(_read_path, source)
        text = await self._fetch(source.url)
        if text is None:
            return None
        return await asyncio.to_thread(_parsed, text, "jsonl", source.name, source.url)

    def forget(self) -> None:
        """Read feeds whole again."""
        self._validators.clear()

    async def _fetch(self, url: str) -> str | None:
        timeout = aiohttp.ClientTimeout(total=FEED_WITHIN_S)
        try:
            async with self.session.get(url, headers=self._validators.get(url, {}), timeout=timeout) as answer:
                if answer.status == 304:
                    return None
                if answer.status != 200:
                    raise KnowledgeSourceError(f"{url}: answers {answer.status}")
                content = await _bounded(answer, url)
                self._validators[url] = _validators(answer)
                return content.decode("utf-8")
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError) as error:
            raise KnowledgeSourceError(f"{url}: {str(error) or type(error).__name__}") from error


def sources_in(directory: Path) -> tuple[str, list[Source]]:
    """Return the tenant of a folder of documents and its sources. Raises KnowledgeSourceError."""
    tenants: set[str] = set()
    found: dict[str, Source] = {}
    for path in sorted((*directory.glob("*.yaml"), *directory.glob("*.yml"))):
        documents, problems = read_documents(path, path.read_bytes())
        if problems:
            raise KnowledgeSourceError(str(problems[0]))
        for document in documents:
            tenants |= _tenant_of(document.value)
            for name, file in _files_of(document.value):
                _add(found, Source(name=name, path=directory / file))
    for source in _listed(directory):
        _add(found, source)
    if len(tenants) != 1:
        raise KnowledgeSourceError(f"{directory}: holds documents of {len(tenants)} tenants, not of one")
    return tenants.pop(), list(found.values())


def source_at(name: str, place: str) -> Source:
    """Return a source from a name and a file, folder or URL. Raises KnowledgeSourceError."""
    if not is_name(name):
        raise KnowledgeSourceError(f"{name!r} is no name for a source")
    if place.startswith(("http://", "https://")):
        return Source(name=name, url=place)
    return Source(name=name, path=Path(place))


def _listed(directory: Path) -> list[Source]:
    path = directory / SOURCES_FILE
    if not path.exists():
        return []
    try:
        places = TypeAdapter(dict[str, _Place]).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise KnowledgeSourceError(f"{path}: {error}") from error
    return [
        source_at(name, place.url or str(path.parent / (place.file or place.folder or "")))
        for name, place in places.items()
    ]


def _add(found: dict[str, Source], source: Source) -> None:
    if found.setdefault(source.name, source) != source:
        raise KnowledgeSourceError(f"{source.name}: two sources of this name")


def _tenant_of(document: object) -> set[str]:
    metadata = document.get("metadata") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(metadata, dict):
        return set()
    name = metadata.get("name") if document.get("kind") == "Tenant" else metadata.get("tenant")
    return {name} if isinstance(name, str) else set()


def _files_of(document: object) -> list[tuple[str, str]]:
    spec = document.get("spec") if isinstance(document, dict) else None
    if not isinstance(document, dict) or document.get("kind") != "Agent" or not isinstance(spec, dict):
        return []
    parts = spec.get("knowledge")
    named = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return [(str(part.get("name")), str(part["file"])) for part in named if part.get("file")]


def _read_path(source: Source) -> tuple[Item, ...]:
    path = source.path
    assert path is not None
    if path.is_dir():
        return _read_folder(path, source.name)
    kind = path.suffix.removeprefix(".")
    if kind not in FORMATS:
        raise KnowledgeSourceError(
            f"{path}: {path.suffix!r} is not supported; one of {', '.join(FORMATS)}, or a folder"
        )
    return _parsed(_text_of(path), kind, source.name, str(path))


def _read_folder(folder: Path, name: str) -> tuple[Item, ...]:
    items: dict[str, Item] = {}
    for path in sorted(folder.rglob("*.md")):
        title = path.relative_to(folder).with_suffix("").as_posix()
        try:
            read = parse_markdown(_text_of(path), title, name)
        except ItemError as error:
            raise KnowledgeSourceError(f"{path}:{error.line}: {error.message}") from error
        for item in read:
            if item.id in items:
                raise KnowledgeSourceError(f"{path}: a second item with id {item.id!r}")
            items[item.id] = item
    if not items:
        raise KnowledgeSourceError(f"{folder}: holds no Markdown")
    return tuple(items.values())


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KnowledgeSourceError(f"{path}: cannot be read: {error}") from error


def _parsed(text: str, kind: str, name: str, place: str) -> tuple[Item, ...]:
    try:
        return parse_items(text, kind, name)
    except ItemError as error:
        raise KnowledgeSourceError(f"{place}:{error.line}: {error.message}") from error


async def _bounded(answer: aiohttp.ClientResponse, url: str) -> bytes:
    content = bytearray()
    async for piece in answer.content.iter_chunked(2**16):
        content += piece
        if len(content) > LARGEST_FEED_BYTES:
            raise KnowledgeSourceError(f"{url}: sends more than {LARGEST_FEED_BYTES} bytes")
    return bytes(content)


def _validators(answer: aiohttp.ClientResponse) -> dict[str, str]:
    pairs = (("If-None-Match", answer.headers.get("ETag")), ("If-Modified-Since", answer.headers.get("Last-Modified")))
    return {name: value for name, value in pairs if value is not None}
