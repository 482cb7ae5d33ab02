"""Rollups as nodes make them, from calls drawn by dice; and the names that documents would give."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from contract.subjects import rollup as rollup_subject
from contract.uplink_pb2 import Entry, Rollup
from edge.rollups.cut import CountedTurn, EndedCall, count

NOW_MS = 1_795_000_000_000
MINUTE_MS = 60_000
OUTCOMES = ("contained", "contained", "contained", "escalated", "abandoned", "failed")


@dataclass
class Names:
    """What documents name."""

    tenants_known: set[str] = field(default_factory=lambda: {"acme", "bank"})
    agents_known: set[str] = field(default_factory=lambda: {"desk"})
    intents_known: set[str] = field(default_factory=lambda: {"price", "hours"})
    reasons_known: set[str] = field(default_factory=lambda: {"complaint"})
    bundle: int = 17
    bundles_lost: set[int] = field(default_factory=set)

    def tenants(self, region: str) -> Collection[str]:
        return self.tenants_known if region in ("in-south", "eu-central") else ()

    def agents(self, tenant: str) -> Collection[str]:
        return self.agents_known

    def intents(self, tenant: str, agent: str) -> Collection[str]:
        return self.intents_known

    def reasons(self, tenant: str) -> Collection[str]:
        return self.reasons_known

    def newest_bundle(self, region: str) -> int:
        return self.bundle

    def has_bundle(self, region: str, version: int) -> bool:
        return version <= self.bundle and version not in self.bundles_lost


def calls(number: int, seed: int, tenant: str = "acme", now_ms: int = NOW_MS) -> list[EndedCall]:
    """So many calls of the last twenty minutes."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    return [_call(dice, tenant, now_ms) for _ in range(number)]


def _call(dice: random.Random, tenant: str, now_ms: int) -> EndedCall:
    began_ms = now_ms - dice.randrange(20 * MINUTE_MS)
    outcome = dice.choice(OUTCOMES)
    turns = tuple(
        CountedTurn(
            seq=seq,
            began_at_ms=began_ms + seq * 5_000,
            intent=dice.choice(["opening", "price", "hours", "slot:size", None]),
            confidence=dice.random(),
            was_interrupted=dice.random() < 0.1,
            is_silent=dice.random() < 0.02,
            latencies_ms={
                "response_ms": round(dice.lognormvariate(5.6, 0.5)),
                "recognise_queue_ms": dice.choice([0, 0, 1, 3]),
                "understand_ms": dice.randrange(2, 30),
            },
        )
        for seq in range(dice.randrange(1, 6))
    )
    return EndedCall(
        tenant=tenant,
        agent="desk",
        agent_version="17-3fa9c04d11ab",
        ended_at_ms=began_ms + 40_000,
        duration_ms=40_000,
        outcome=outcome,
        reason=dice.choice(["asked_for_human", "complaint"]) if outcome == "escalated" else "goodbye",
        first_audio_ms=dice.randrange(20, 90),
        is_repeated=dice.random() < 0.2,
        turns=turns,
    )


def rollup(
    entries: Sequence[Entry], *, seq: int = 1, node: str = "in-south-1", region: str = "in-south", now_ms: int = NOW_MS
) -> Rollup:
    return Rollup(region=region, node=node, seq=seq, cut_at_ms=now_ms, entries=entries)


def payload(made: Rollup) -> bytes:
    return made.SerializeToString(deterministic=True)


def some_rollup(number: int = 5, seed: int = 1, *, seq: int = 1, node: str = "in-south-1") -> Rollup:
    """A rollup of a few calls."""
    return rollup(count(calls(number, seed)), seq=seq, node=node)


def subject_of(made: Rollup) -> str:
    return rollup_subject(made.region, made.node)
