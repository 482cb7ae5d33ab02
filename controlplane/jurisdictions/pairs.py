"""Whether a region may take the calls of another. Pure.

Refused unless every pack of both regions has a rule that allows it: a caller's words are processed in the backup, under
its laws, and what is kept of them may have to come back. A rule refuses whatever its force: nobody must pair regions.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from controlplane.jurisdictions.facts import RegionFacts
from controlplane.jurisdictions.rules import Pack, Rule, RuleKind

NO_JURISDICTION = "hub.no_jurisdiction"
NO_PACK = "hub.no_pack"
READ_MORE = "docs/hub-and-regions.md, Regions that back each other"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairRefusal:
    """Why not: the rule, where it stands, and a sentence."""

    rule: str
    article: str
    message: str


def pair_refusal(
    region: RegionFacts, backup: RegionFacts, packs: Mapping[str, Pack], also: Iterable[str] = ()
) -> PairRefusal | None:
    """The first rule that keeps `backup` from taking the calls of `region`; `also` are the packs of a tenant."""
    return next(_refusals(region, backup, packs, also), None)


def may_back(rule: Rule, region: RegionFacts, backup: RegionFacts, pack: Pack) -> bool:
    """Whether a `region_pair` rule of the pack lets what belongs to `region` be in `backup`."""
    is_same = region.country == backup.country or {region.country, backup.country} <= pack.countries
    match rule.value:
        case "any":
            return True
        case "adequate":
            return is_same or backup.country in pack.countries | pack.adequate
        case "same_jurisdiction":
            return is_same
        case _:
            return False


def _refusals(
    region: RegionFacts, backup: RegionFacts, packs: Mapping[str, Pack], also: Iterable[str]
) -> Iterator[PairRefusal]:
    for one in (region, backup):
        if not one.jurisdictions:
            message = f"{one.name} is under no jurisdiction, so that no law allows the pair."
            yield PairRefusal(rule=NO_JURISDICTION, article=READ_MORE, message=message)
    own = sorted({*region.jurisdictions, *also})
    for names, place, other in ((own, region, backup), (sorted(backup.jurisdictions), backup, region)):
        for name in names:
            yield from _by_pack(name, place, other, packs)


def _by_pack(name: str, place: RegionFacts, other: RegionFacts, packs: Mapping[str, Pack]) -> Iterator[PairRefusal]:
    pack = packs.get(name)
    if pack is None:
        yield PairRefusal(rule=NO_PACK, article=READ_MORE, message=f"There is no jurisdiction pack {name!r}.")
        return
    rule = next((rule for rule in pack.rules if rule.kind is RuleKind.REGION_PAIR), None)
    pair = f"{place.name} ({place.country}) and {other.name} ({other.country})"
    if rule is None:
        message = f"The pack has no rule that lets {pair} back each other."
        yield PairRefusal(rule=f"{name}.residency.region_pair", article=pack.title, message=message)
    elif not may_back(rule, place, other, pack):
        message = f"{pair} back each other, and the pair must be: {rule.value}. {rule.because}"
        yield PairRefusal(rule=rule.id, article=rule.article, message=message)
