"""A retail catalogue as large as operators have them, its weekly changes, and how fast and well it is searched.

Everything follows from a seed: the same items, changes and questions in every run. Names are made of invented brands
and series, so that they sound like products and belong to nobody. One item in twenty is outside its dates.
"""

import asyncio
import gc
import hashlib
import itertools
import random
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.statistics import summarise
from contract.knowledge_items import Item, as_json_line, texts_of
from edge.call.ports import Embedder, Priority, Purpose
from edge.knowledge.base import KnowledgeBase

SOURCE = "catalogue"
VECTORS = Path(".state/bench")
_BATCH_TEXTS = 64
_BUDGET_S = 30.0
_QUESTIONS = 400
_MISHEARD_SHARE = 0.15
_ONSETS = (
    "b",
    "br",
    "c",
    "cl",
    "d",
    "dr",
    "f",
    "g",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "qu",
    "r",
    "s",
    "st",
    "t",
    "tr",
    "v",
    "z",
)
_NUCLEI = ("a", "e", "i", "o", "u", "ai", "ea", "io", "or", "ar")
_CODAS = ("", "n", "r", "l", "x", "s", "m", "nt", "rk", "th")
_COLOURS = ("black", "white", "silver", "graphite", "navy", "forest green", "sand", "cherry red", "copper", "pearl")
_WARRANTIES = ("one year", "two years", "five years")
_ROOMS = (
    "small kitchens", "large families", "students", "the garden", "long journeys", "the home office", "open offices",
    "beginners", "professionals", "children", "pets in the house", "narrow stairs", "rainy weather", "camping",
)  # fmt: skip
_KINDS = {
    kind: (tuple(facts["sizes"]), tuple(facts["features"]))
    for kind, facts in tomllib.loads(Path(__file__).with_name("products.toml").read_text(encoding="utf-8")).items()
}


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """`items` items by `seed`."""

    items: int = 80_000
    seed: int = 1

    def lines(self) -> Iterator[str]:
        """Yield the catalogue as JSON lines."""
        return map(as_json_line, self.all_items)

    def changed(self, number: int) -> tuple[str, str, str]:
        """Return the id, JSON line and new answer of the `number`-th single change: a price, of an item valid today."""
        valid = self._valid
        item = self._repriced(valid[number * 7919 % len(valid)], round_number=1_000_000 + number)
        return item.id, as_json_line(item), item.answer

    def week(self, number: int, changes: int) -> list[str]:
        """Return the JSON lines of one week: prices, stock, a few new items."""
        chosen = random.Random(f"{self.seed}/week/{number}").sample(self.all_items, changes)  # noqa: S311 - reproducible
        fresh = changes // 20
        lines = [as_json_line(self._repriced(item, round_number=number)) for item in chosen[fresh:]]
        made = itertools.islice(_items(f"{self.seed}/new/{number}"), fresh)
        return lines + [as_json_line(replace(item, id=f"w{number}-{item.id}")) for item in made]

    @cached_property
    def all_items(self) -> list[Item]:
        """The items as they are at first."""
        return list(itertools.islice(_items(str(self.seed)), self.items))

    @cached_property
    def _valid(self) -> list[Item]:
        today = datetime.now(UTC).date()
        return [item for item in self.all_items if item.is_valid(today)]

    def _repriced(self, item: Item, *, round_number: int) -> Item:
        chance = random.Random(f"{self.seed}/{round_number}/{item.id}")  # noqa: S311 - reproducible
        price, stock = _price(chance), chance.randrange(200)
        attributes = {**item.attributes, "price": price, "stock": str(stock)}
        return replace(
            item, version=item.version + 1, attributes=attributes, answer=_answer(item.attributes["about"], price)
        )


def questions(catalogue: Catalogue, count: int = _QUESTIONS) -> list[str]:
    """Return what callers would ask, as a recogniser writes it: some words are misheard."""
    chance = random.Random(f"{catalogue.seed}/questions")  # noqa: S311 - reproducible
    asked = []
    for item in chance.sample(catalogue.all_items, count):
        facts = item.attributes
        pattern = chance.choice((
            "how much is the {title}", "what does the {title} cost", "what is the warranty on the {title}",
            "do you have a {size} {kind} with {feature}", "i am looking for a {colour} {kind} for {use}",
            "is there a {kind} with {feature} and {other}", "which {size} {kind} do you sell for {use}",
            "tell me about the {title} please", "do you have the {title} in stock",
        ))  # fmt: skip
        asked.append(misheard(pattern.format(**{**facts, "title": item.title}), chance))
    return asked


def misheard(text: str, chance: random.Random) -> str:
    """Return the text with errors of a recogniser on telephone speech: letters that sound alike, words run together."""
    words: list[str] = []
    for word in text.lower().split():
        if len(word) < 4 or chance.random() >= _MISHEARD_SHARE:
            words.append(word)
            continue
        place = chance.randrange(1, len(word))
        kind = chance.randrange(4)
        if kind == 0:
            words.append(word[:place] + chance.choice("aeiou") + word[place + 1 :])
        elif kind == 1:
            words.append(word[:place] + word[place + 1 :])
        elif kind == 2 and words:
            words[-1] += word
        else:
            words += [word[:place], word[place:]]
    return " ".join(words)


async def measure_retrieval(
    base: KnowledgeBase, catalogue: Catalogue, embedder: Embedder, *, vectors: Path = VECTORS
) -> dict[str, Any]:
    """Ask a knowledge base that holds the catalogue: how long one search takes, with the question's vector at hand and
    with making it; and how many of the five nearest items by exact float32 search are among those found. Processor time
    tells how much of the first is waiting for a core that others use."""
    today = datetime.now(UTC).date()
    asked = questions(catalogue)
    purpose = Purpose(tenant="bench", call_id="", priority=Priority.LIVE, budget_s=_BUDGET_S)
    exact = await exact_vectors(catalogue, embedder, vectors)
    # The bench's own 80,000 items are no part of a call worker; its collector would walk over them.
    gc.collect()
    gc.freeze()
    alone, processor, together, hits = [], [], [], 0
    for text in asked:
        began = time.perf_counter()
        (vector,) = await embedder.embed([text], purpose)
        embedded, used = time.perf_counter(), time.thread_time()
        matches = base.search(text, vector, today)
        ended = time.perf_counter()
        processor.append((time.thread_time() - used) * 1000)
        alone.append((ended - embedded) * 1000)
        together.append((ended - began) * 1000)
        nearest = sorted(matches, key=lambda match: -match.cosine)[:5]
        hits += len({match.key for match in nearest} & set(_five_nearest(catalogue, exact, vector, today)))
    return {
        "retrieval_ms": asdict(_summary(alone)),
        "retrieval_processor_ms": asdict(_summary(processor)),
        "retrieval_with_embedding_ms": asdict(_summary(together)),
        "recall_at_5": round(hits / (5 * len(asked)), 4),
        "questions": len(asked),
    }


def measure_names(base: KnowledgeBase, catalogue: Catalogue) -> dict[str, Any]:
    """Name items to a knowledge base that finds the catalogue's by name: how long that takes, and how often the item
    that was named, misheard or not, is among those found."""
    today = datetime.now(UTC).date()
    chance = random.Random(f"{catalogue.seed}/names")  # noqa: S311 - reproducible
    valid = [item for item in catalogue.all_items if item.is_valid(today)]
    taken, processor, found = [], [], {True: [0, 0], False: [0, 0]}
    for item in chance.sample(valid, _QUESTIONS):
        plain = f"how much is the {item.title}".lower()
        text = misheard(plain, chance)
        began, used = time.perf_counter(), time.thread_time()
        mention = base.mention(text, SOURCE, today)
        taken.append((time.perf_counter() - began) * 1000)
        processor.append((time.thread_time() - used) * 1000)
        counted = found[text == plain]
        counted[0] += mention is not None and any(one.id == item.id for one in mention.items)
        counted[1] += 1
    return {
        "names_ms": asdict(_summary(taken)),
        "names_processor_ms": asdict(_summary(processor)),
        "names_found_heard_right": round(found[True][0] / max(found[True][1], 1), 4),
        "names_found_misheard": round(found[False][0] / max(found[False][1], 1), 4),
    }


async def exact_vectors(catalogue: Catalogue, embedder: Embedder, directory: Path) -> NDArray[np.float32]:
    """Return the float32 vectors of all items in order, kept in a folder between runs: making 80,000 takes minutes."""
    texts = [text for item in catalogue.all_items for text in texts_of(item)]
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
    path = directory / f"catalogue-{digest}.npy"
    stored = await asyncio.to_thread(_load, path)
    if stored is not None:
        return stored
    purpose = Purpose(tenant="bench", call_id="", priority=Priority.SHADOW, budget_s=_BUDGET_S)
    parts = [
        await embedder.embed(texts[start : start + _BATCH_TEXTS], purpose)
        for start in range(0, len(texts), _BATCH_TEXTS)
    ]
    vectors: NDArray[np.float32] = np.concatenate(parts)
    await asyncio.to_thread(_save, path, vectors)
    return vectors


def _load(path: Path) -> NDArray[np.float32] | None:
    if not path.exists():
        return None
    stored: NDArray[np.float32] = np.load(path, allow_pickle=False)
    return stored


def _save(path: Path, vectors: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npy")
    np.save(partial, vectors)
    partial.rename(path)


def _five_nearest(
    catalogue: Catalogue, exact: NDArray[np.float32], vector: NDArray[np.float32], today: date
) -> list[str]:
    nearest = np.argsort(-(exact @ vector), kind="stable")
    valid = (catalogue.all_items[int(place)] for place in nearest)
    return [item.id for item in itertools.islice((item for item in valid if item.is_valid(today)), 5)]


def _summary(samples: Sequence[float]) -> Any:
    summary = summarise(samples)
    assert summary is not None
    return summary


def _items(seed: str) -> Iterator[Item]:
    chance = random.Random(seed)  # noqa: S311 - reproducible
    brands = sorted({_name(chance, 2) for _ in range(160)})
    series = sorted({_name(chance, 2) for _ in range(700)})
    seen: set[str] = set()
    for number in itertools.count(1):
        item = _item(number, brands, series, chance)
        while item.title in seen:
            item = _item(number, brands, series, chance)
        seen.add(item.title)
        yield item


def _item(number: int, brands: Sequence[str], series: Sequence[str], chance: random.Random) -> Item:
    kind = chance.choice(list(_KINDS))
    sizes, features = _KINDS[kind]
    brand, line, size, colour = (
        chance.choice(brands),
        chance.choice(series),
        chance.choice(sizes),
        chance.choice(_COLOURS),
    )
    first, second, third = chance.sample(features, 3)
    use = chance.choice(_ROOMS)
    model = f" {chance.randrange(2, 10) * 100}" if chance.random() < 0.4 else ""
    about = f"a {colour} {size} {kind} for {use}, with {first}, {second} and {third}"
    price = _price(chance)
    facts = {
        "price": price, "stock": str(chance.randrange(200)), "warranty": chance.choice(_WARRANTIES),
        "about": about, "kind": kind, "size": size, "colour": colour, "use": use, "feature": first, "other": second,
    }  # fmt: skip
    title = f"{brand} {line}{model} {kind}"
    valid_from, valid_until = _dates(chance)
    return Item(
        id=f"sku-{number:06}",
        version=1,
        title=title,
        source=SOURCE,
        answer=_answer(about, price),
        aliases=(f"{brand} {line}{model}",),
        attributes={**facts, "title": title, "description": _answer(about, price)},
        valid_from=valid_from,
        valid_until=valid_until,
    )


def _dates(chance: random.Random) -> tuple[date | None, date | None]:
    drawn = chance.random()
    if drawn < 0.03:
        return None, date(2024, 12, 31)
    if drawn < 0.05:
        return date(2099, 1, 1), None
    return (date(2025, 1, 1), date(2098, 12, 31)) if drawn < 0.2 else (None, None)


def _answer(about: str, price: str) -> str:
    return f"It is {about}. It costs {price} dollars."


def _price(chance: random.Random) -> str:
    return f"{chance.randrange(9, 1900)}.{chance.choice(('00', '49', '90', '95', '99'))}"


def _name(chance: random.Random, syllables: int) -> str:
    parts = (chance.choice(_ONSETS) + chance.choice(_NUCLEI) for _ in range(syllables))
    return ("".join(parts) + chance.choice(_CODAS)).capitalize()
