"""The waiting line in front of one model: who goes next, and who is turned away when it is full.

Theory of operation. Synchronous and pure; time comes in as a number.

- Between tenants of one priority: start-time fair queueing (Goyal, Vin, Cheng 1996). Each ticket gets a start tag
  max(virtual time, the tenant's last finish tag) and a finish tag start + cost / weight; the lowest start tag goes
  first and becomes the virtual time. A tenant that floods the model only moves its own tags into the future.
- Between ranks: in the order of `ORDER`; what a sibling node asks for comes right behind what is as urgent here. Of the
  waiting ranks that were passed over PATIENCE times or more, the one that was most often gets one turn in PATIENCE + 1,
  so nobody starves.
- Siblings: at most `sibling_capacity` tickets of theirs wait, and none is handed out while `pop` is told so.
- Overflow (written policy): a full queue turns away the newest ticket of the lowest rank that waits, if that is below
  the newcomer's; else the newest ticket of the tenant with the longest line (by weight) in the newcomer's rank, if that
  line is longer than the newcomer's own; else the newcomer. A sibling's ticket that is one too many is turned away.
- A ticket whose deadline has passed is never handed out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Rank(StrEnum):
    """Who goes first: how urgent the work is, and whose callers it is for."""

    LIVE = "live"
    SIBLING_LIVE = "sibling_live"
    SPECULATIVE = "speculative"
    SIBLING_SPECULATIVE = "sibling_speculative"
    SHADOW = "shadow"


ORDER = tuple(Rank)
OF_SIBLINGS = frozenset({Rank.SIBLING_LIVE, Rank.SIBLING_SPECULATIVE})
# One dispatch in nine at most goes to work that would otherwise starve: 11 % of the model's time.
PATIENCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """One piece of work; `number` grows with arrival, `cost` is in any one unit per model, above zero."""

    number: int
    tenant: str
    rank: Rank
    cost: float
    deadline_s: float

    @property
    def is_of_sibling(self) -> bool:
        """Whether another node's caller waits for it."""
        return self.rank in OF_SIBLINGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """What `pop` found: the next ticket, and those that expired while they waited."""

    ticket: Ticket | None
    expired: tuple[Ticket, ...]


@dataclass(slots=True)
class _Line:
    """The tickets of one rank."""

    virtual_time: float = 0.0
    finish_tags: dict[str, float] = field(default_factory=dict)
    # Start tag and ticket, in order of arrival.
    waiting: dict[int, tuple[float, Ticket]] = field(default_factory=dict)
    passed_over: int = 0

    def backlog(self, tenant: str) -> int:
        return sum(ticket.tenant == tenant for _, ticket in self.waiting.values())


class FairQueue:
    """See the module's theory of operation. Not thread-safe: one event loop owns it."""

    def __init__(self, *, capacity: int, weights: Mapping[str, float], sibling_capacity: int = 0) -> None:
        self._capacity = capacity
        self._sibling_capacity = sibling_capacity
        self._weights = dict(weights)
        self._lines = {rank: _Line() for rank in ORDER}
        # Turns since one was given out of order.
        self._in_order = 0

    def __len__(self) -> int:
        return sum(len(line.waiting) for line in self._lines.values())

    def push(self, ticket: Ticket) -> Ticket | None:
        """Add a ticket; return the one turned away for it, which may be itself."""
        if (
            ticket.is_of_sibling
            and sum(len(self._lines[rank].waiting) for rank in OF_SIBLINGS) >= self._sibling_capacity
        ):
            return ticket
        evicted = self._victim(ticket) if len(self) >= self._capacity else None
        if evicted is not None:
            if evicted is ticket:
                return ticket
            self.remove(evicted)
        line = self._lines[ticket.rank]
        start = max(line.virtual_time, line.finish_tags.get(ticket.tenant, 0.0))
        line.finish_tags[ticket.tenant] = start + ticket.cost / self._weight(ticket.tenant)
        line.waiting[ticket.number] = (start, ticket)
        return evicted

    def remove(self, ticket: Ticket) -> bool:
        """Take a ticket out; its tenant gets its share back. False when it no longer waits."""
        line = self._lines[ticket.rank]
        if line.waiting.pop(ticket.number, None) is None:
            return False
        refund = ticket.cost / self._weight(ticket.tenant)
        line.finish_tags[ticket.tenant] -= refund
        for number, (start, other) in line.waiting.items():
            if other.tenant == ticket.tenant and number > ticket.number:
                line.waiting[number] = (start - refund, other)
        return True

    def pop(self, now_s: float, *, may_be_siblings: bool = True) -> Dispatch:
        """Take out the ticket whose turn it is and every ticket that is too late."""
        expired = [ticket for line in self._lines.values() for _, ticket in line.waiting.values()]
        expired = [ticket for ticket in expired if ticket.deadline_s < now_s]
        for ticket in expired:
            self.remove(ticket)
        line = self._next_line(may_be_siblings=may_be_siblings)
        if line is None:
            return Dispatch(ticket=None, expired=tuple(expired))
        start, ticket = min(line.waiting.values(), key=lambda entry: (entry[0], entry[1].number))
        del line.waiting[ticket.number]
        line.virtual_time = max(line.virtual_time, start)
        if not line.waiting:
            # An idle line forgets: tags of tenants that are gone must not pile up.
            line.finish_tags = {tenant: tag for tenant, tag in line.finish_tags.items() if tag > line.virtual_time}
        return Dispatch(ticket=ticket, expired=tuple(expired))

    def _next_line(self, *, may_be_siblings: bool) -> _Line | None:
        waiting = [
            line for rank, line in self._lines.items() if line.waiting and (may_be_siblings or rank not in OF_SIBLINGS)
        ]
        if not waiting:
            return None
        chosen = waiting[0]
        patient = [line for line in waiting[1:] if line.passed_over >= PATIENCE]
        if patient and self._in_order >= PATIENCE:
            chosen = max(patient, key=lambda line: line.passed_over)
        self._in_order = 0 if chosen is not waiting[0] else self._in_order + 1
        for line in waiting:
            line.passed_over += 1
        chosen.passed_over = 0
        return chosen

    def _victim(self, newcomer: Ticket) -> Ticket:
        for rank in reversed(ORDER):
            line = self._lines[rank]
            if ORDER.index(rank) <= ORDER.index(newcomer.rank):
                break
            if line.waiting:
                return self._newest_of_longest(line)
        line = self._lines[newcomer.rank]
        if not line.waiting:
            return newcomer
        newest = self._newest_of_longest(line)
        longest = line.backlog(newest.tenant) / self._weight(newest.tenant)
        own = (line.backlog(newcomer.tenant) + 1) / self._weight(newcomer.tenant)
        return newest if longest > own else newcomer

    def _newest_of_longest(self, line: _Line) -> Ticket:
        tenants = {ticket.tenant for _, ticket in line.waiting.values()}
        longest = max(sorted(tenants), key=lambda tenant: line.backlog(tenant) / self._weight(tenant))
        return max(
            (ticket for _, ticket in line.waiting.values() if ticket.tenant == longest),
            key=lambda ticket: ticket.number,
        )

    def _weight(self, tenant: str) -> float:
        return self._weights.get(tenant, 1.0)
