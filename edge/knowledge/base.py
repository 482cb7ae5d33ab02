"""The knowledge of one agent: its items, found by id, by name or by question.

Behind it lies a database in memory, made of the files beside the agent's documents, or the tenant's replica on disk,
which changes while calls go on. Every look at a replica first asks whether it changed, which costs microseconds. A
delta is taken in at once. A new snapshot, or a very large delta, is opened by a thread of its own; until it is ready,
answers come from what was open before. What is opened is compared with the node's embedding model first; what cannot
be used is looked at again some time later.
"""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from datetime import date
from pathlib import Path

import apsw
import numpy as np
import structlog
import watchfiles
from numpy.typing import NDArray

from contract.downlink_pb2 import ItemText
from contract.errors import BoroughError
from contract.knowledge_items import as_message, texts_of
from contract.knowledge_vectors import quantised
from edge.call.ports import Embedder, Priority, Purpose
from edge.knowledge import database
from edge.knowledge.errors import KnowledgeDamagedError, KnowledgeEmbeddingError
from edge.knowledge.examples import Match
from edge.knowledge.items import Item
from edge.knowledge.mentions import Mention
from edge.knowledge.vectors import embed_texts
from edge.knowledge.view import View, data_file

log = structlog.get_logger(__name__)

# Sources with more items are catalogues: no audio is prepared for them, nor is anything else done item by item.
SMALL_SOURCE_ITEMS = 500
# Cosine of a text's vector by the node's model and by the hub's; int8 alone costs 0.001.
_SAME_MODEL = 0.98
_EMBED_BUDGET_S = 10.0
# The embedder bounds itself; this is for a thread whose event loop ends meanwhile.
_CHECK_WITHIN_S = 2 * _EMBED_BUDGET_S
# A replica that could not be opened (a lock, too many files) is opened again after this long; one of another model
# will most likely still be one, and opening costs up to a second of processor time.
_AGAIN_AFTER_S = 5.0
_OTHER_MODEL_AGAIN_AFTER_S = 300.0


class KnowledgeBase:
    """Items of several sources behind one hybrid index. Items outside their dates are never returned."""

    def __init__(self, view: View, model: "_Model", replica: "_Replica | None" = None) -> None:
        self._view = view
        self._model = model
        self._replica = replica

    @property
    def version(self) -> int:
        """The version of the replica that answers come from, 0 for files."""
        return self._now().version

    def item(self, item_id: str, today: date) -> Item | None:
        """Return a valid item, None if there is none of this id."""
        item = self._now().item(item_id)
        return item if item is not None and item.is_valid(today) else None

    def items(self, today: date) -> tuple[Item, ...]:
        """Return the valid items of all sources with no more than SMALL_SOURCE_ITEMS."""
        return tuple(item for item in self._now().items(SMALL_SOURCE_ITEMS) if item.is_valid(today))

    def search(self, text: str, vector: NDArray[np.float32], today: date) -> list[Match]:
        """Return items that may answer the question, best first; keys are item ids."""
        return self._now().search(text, vector, today)

    def known_share(self, text: str) -> float:
        return self._now().known_share(text)

    def mention(self, text: str, source: str, today: date) -> Mention | None:
        """Return what items of a source the text names, if any."""
        return self._now().mention(text, source, today)

    def follow(self, path: Path, sources: Sequence[str], mentions: Mapping[str, str]) -> None:
        """Use a replica as soon as there is one."""
        self._replica = _Replica(path, frozenset(sources), mentions, self._model)

    async def watch(self) -> None:
        """Follow the replica also while nobody asks, so that the first question after a swap finds the new one.
        Runs until cancelled; returns at once for files."""
        if self._replica is None:
            return
        folder = self._replica.path.parent
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        async for _ in watchfiles.awatch(folder, watch_filter=None, recursive=False):
            self._now()

    def close(self) -> None:
        """Close the database; nothing may be asked afterwards."""
        self._view.close()

    def _now(self) -> View:
        if self._replica is not None:
            self._view = self._replica.newest(self._view)
        return self._view


class _Model:
    """The embedding model of this node, as threads may ask it."""

    def __init__(self, embedder: Embedder, tenant: str) -> None:
        self._embedder = embedder
        self._tenant = tenant
        self._loop = asyncio.get_running_loop()

    def check(self, view: View) -> None:
        """See that the vectors are of this model; not for the event loop's thread.

        Raises KnowledgeEmbeddingError and what the embedder raises.
        """
        sample = view.sample_text()
        if sample is None:
            return
        text, stored = sample
        asking = self._embed(text)
        try:
            asked = asyncio.run_coroutine_threadsafe(asking, self._loop)
        except RuntimeError:  # the loop is closed
            asking.close()
            raise
        own = asked.result(_CHECK_WITHIN_S)
        if len(own) != len(stored) or float(own @ stored) < _SAME_MODEL:
            raise KnowledgeEmbeddingError(
                f"{self._tenant}: the replica's vectors are of another model than this node's"
            )

    async def _embed(self, text: str) -> NDArray[np.float32]:
        purpose = Purpose(tenant=self._tenant, call_id="", priority=Priority.SHADOW, budget_s=_EMBED_BUDGET_S)
        (own,) = await self._embedder.embed([text], purpose)
        return np.asarray(own, dtype=np.float32)


class _Replica:
    """Follows a tenant's replica for one agent."""

    def __init__(self, path: Path, sources: frozenset[str], mentions: Mapping[str, str], model: _Model) -> None:
        self.path = path
        self._model = model
        self._sources = sources
        self._mentions = mentions
        self._file: Path | None = None
        self._unusable: Path | None = None
        self._again_at = 0.0
        self._opened: tuple[Path, View] | None = None
        self._opening: threading.Thread | None = None

    def open(self) -> View:
        """Open what runs now; not for the event loop's thread.

        Raises apsw.Error, OSError, KnowledgeEmbeddingError and what the embedder raises.
        """
        # The link may move between reading and opening it, and then the file is gone: look again.
        for attempt in (1, 2, 3):
            file = data_file(self.path)
            try:
                if file is None:
                    raise FileNotFoundError(self.path)
                view = View.open(file, self._sources, self._mentions)
            except apsw.CantOpenError:
                if attempt == 3 or data_file(self.path) == file:
                    raise
                continue
            try:
                self._model.check(view)
            except BaseException:
                view.close()
                raise
            self._opened = (file, view)
            return view
        raise AssertionError

    def newest(self, view: View) -> View:
        """Return the view to use: the same, brought up to date, or the one that a thread has opened meanwhile."""
        if self._opening is not None and not self._opening.is_alive():
            self._opening = None
        if self._opening is None and self._opened is not None:
            self._file, opened = self._opened
            self._opened = None
            if opened is not view:
                view.close()
                view = opened
        file = data_file(self.path)
        # While there is none, or only one that cannot be opened, what is open goes on answering.
        is_usable = file is not None and (file != self._unusable or time.monotonic() >= self._again_at)
        if self._opening is None and is_usable and not (file == self._file and view.follow()):
            self._opening = threading.Thread(target=self._open_beside, name="knowledge:open", daemon=True)
            self._opening.start()
        return view

    def _open_beside(self) -> None:
        file = data_file(self.path)
        try:
            self.open()
        except (apsw.Error, OSError, BoroughError, RuntimeError, TimeoutError, CancelledError) as error:
            is_other = isinstance(error, KnowledgeEmbeddingError)
            self._again_at = time.monotonic() + (_OTHER_MODEL_AGAIN_AFTER_S if is_other else _AGAIN_AFTER_S)
            self._unusable = file
            # What was open before goes on answering; the sync agent notices damage and fetches again.
            log.warning("knowledge_reopen_failed", error=type(error).__name__)


async def open_knowledge(
    items: Sequence[Item], mentions: Mapping[str, str], embedder: Embedder, *, tenant: str, cache: Path | None
) -> KnowledgeBase:
    """Index items in memory. `mentions` maps the sources whose items have names to what such an item is called."""
    # Items with names are found by name; their texts would only crowd out the questions about the others.
    asked = [texts_of(item) if item.source not in mentions or item.questions else () for item in items]
    vectors = await embed_texts([text for texts in asked for text in texts], embedder, tenant=tenant, cache=cache)
    connection = apsw.Connection(":memory:")
    database.create(connection)
    writer = database.Writer(connection, version=1)
    left = iter(quantised(vectors))
    with connection:
        for item, texts in zip(items, asked, strict=True):
            stored = [
                ItemText(text=text, vector=vector.components, scale=vector.scale)
                for text, vector in zip(texts, left, strict=False)
            ]
            writer.put(as_message(item, stored))
        writer.flush()
    view = View(connection, frozenset(item.source for item in items), mentions)
    return KnowledgeBase(view, _Model(embedder, tenant))


async def open_replica(
    path: Path, sources: Sequence[str], mentions: Mapping[str, str], embedder: Embedder, *, tenant: str
) -> KnowledgeBase:
    """Open a tenant's replica for an agent with these sources.

    Raises KnowledgeDamagedError, KnowledgeEmbeddingError and what the embedder raises.
    """
    model = _Model(embedder, tenant)
    replica = _Replica(path, frozenset(sources), mentions, model)
    try:
        view = await asyncio.to_thread(replica.open)
    except (apsw.Error, OSError) as error:
        raise KnowledgeDamagedError(tenant, str(error)) from error
    return KnowledgeBase(view, model, replica)
