"""The waiting line shares fairly, starves nobody, and turns away by its written policy."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.fair_queue import ORDER, PATIENCE, FairQueue, Rank, Ticket

_numbers = itertools.count()
FOREVER_S = 1e9


def _ticket(tenant: str = "a", rank: Rank = Rank.LIVE, *, cost: float = 1.0, deadline_s: float = FOREVER_S) -> Ticket:
    return Ticket(number=next(_numbers), tenant=tenant, rank=rank, cost=cost, deadline_s=deadline_s)


def _drain(line: FairQueue, count: int = 10_000) -> list[Ticket]:
    served: list[Ticket] = []
    while len(served) < count and (ticket := line.pop(0.0).ticket):
        served.append(ticket)
    return served


def test_a_quiet_tenant_goes_next_however_long_the_other_line_is() -> None:
    """Start-time fair queueing: one ticket behind a flood waits for one piece of work, not for the flood."""
    line = FairQueue(capacity=1000, weights={})
    for _ in range(100):
        line.push(_ticket("noisy"))
    assert line.pop(0.0).ticket is not None
    quiet = _ticket("quiet")
    line.push(quiet)
    assert quiet in _drain(line, 2)


@given(
    weights=st.fixed_dictionaries({"a": st.integers(1, 8), "b": st.integers(1, 8), "c": st.integers(1, 8)}),
    costs=st.lists(st.floats(0.1, 5.0), min_size=60, max_size=60),
)
def test_backlogged_tenants_get_work_in_proportion_to_their_weights(
    weights: dict[str, int], costs: list[float]
) -> None:
    """While all three wait, work per weight never differs by more than two of the largest pieces per weight."""
    line = FairQueue(capacity=1000, weights={tenant: float(weight) for tenant, weight in weights.items()})
    for index, cost in enumerate(costs):
        line.push(_ticket("abc"[index % 3], cost=cost))
    left = Counter({"a": 20, "b": 20, "c": 20})
    work = dict.fromkeys("abc", 0.0)
    while min(left.values()) > 0:
        ticket = line.pop(0.0).ticket
        assert ticket is not None
        left[ticket.tenant] -= 1
        work[ticket.tenant] += ticket.cost
        shares = [work[tenant] / weights[tenant] for tenant in "abc"]
        allowed = 2 * max(costs) * max(1 / weight for weight in weights.values())
        assert max(shares) - min(shares) <= allowed + 1e-6


@given(st.lists(st.sampled_from(list(Rank)), min_size=1, max_size=80))
def test_live_goes_first_and_nobody_starves(ranks: list[Rank]) -> None:
    """Out of order work happens only once PATIENCE dispatches have passed the lower rank over, once in PATIENCE + 1."""
    line = FairQueue(capacity=1000, weights={}, sibling_capacity=1000)
    for rank in ranks:
        line.push(_ticket(rank=rank))
    served = [ticket.rank for ticket in _drain(line)]
    assert Counter(served) == Counter(ranks)
    for lower in ORDER[1:]:
        if lower in ranks:
            assert served.index(lower) <= 4 * (PATIENCE + 1)
    lives = ranks.count(Rank.LIVE)
    for start in range(0, lives, PATIENCE):
        assert served[start : start + PATIENCE + 1].count(Rank.LIVE) >= min(PATIENCE, lives - start)


def test_a_full_queue_drops_the_lowest_priority_for_live_work() -> None:
    """LIVE evicts SHADOW first, then SPECULATIVE; never the other way round."""
    line = FairQueue(capacity=2, weights={})
    speculative, shadow = _ticket(rank=Rank.SPECULATIVE), _ticket(rank=Rank.SHADOW)
    line.push(speculative)
    line.push(shadow)
    assert line.push(_ticket()) is shadow
    assert line.push(_ticket()) is speculative
    late = _ticket(rank=Rank.SPECULATIVE)
    assert line.push(late) is late


def test_a_full_queue_drops_from_the_longest_line() -> None:
    """A tenant that filled the queue loses its newest ticket to another tenant, and its own next one is refused."""
    line = FairQueue(capacity=3, weights={})
    flood = [_ticket("noisy") for _ in range(3)]
    for ticket in flood:
        line.push(ticket)
    assert line.push(_ticket("quiet")) is flood[-1]
    own = _ticket("noisy")
    assert line.push(own) is own


def test_expired_work_is_never_handed_out() -> None:
    """A ticket whose deadline has passed comes back as expired."""
    line = FairQueue(capacity=3, weights={})
    late, good = _ticket(deadline_s=1.0), _ticket(deadline_s=3.0)
    line.push(late)
    line.push(good)
    dispatch = line.pop(2.0)
    assert dispatch.ticket is good
    assert dispatch.expired == (late,)


def test_withdrawn_work_costs_its_tenant_nothing() -> None:
    """After withdrawing everything a tenant is served as if it had never asked."""
    line = FairQueue(capacity=100, weights={})
    for ticket in [_ticket("fickle", cost=50.0) for _ in range(10)]:
        line.push(ticket)
        assert line.remove(ticket)
        assert not line.remove(ticket)
    steady = [_ticket("steady") for _ in range(3)]
    for ticket in steady:
        line.push(ticket)
    back = _ticket("fickle")
    line.push(back)
    assert back in _drain(line, 2)


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(list(Rank)), st.booleans()), max_size=120),
    st.integers(1, 10),
    st.integers(0, 4),
)
def test_every_ticket_leaves_exactly_once(arrivals: list[tuple[str, Rank, bool]], capacity: int, siblings: int) -> None:
    """Served, turned away or still waiting: nothing is lost, nothing comes twice, the queue never exceeds its size."""
    line = FairQueue(capacity=capacity, weights={"a": 3.0}, sibling_capacity=siblings)
    pushed, left = [], []
    for tenant, rank, pops in arrivals:
        ticket = _ticket(tenant, rank)
        pushed.append(ticket)
        if (evicted := line.push(ticket)) is not None:
            left.append(evicted)
        assert len(line) <= capacity
        if pops and (served := line.pop(0.0).ticket):
            left.append(served)
    left += _drain(line)
    assert sorted(ticket.number for ticket in left) == [ticket.number for ticket in pushed]


def test_an_empty_queue_gives_nothing() -> None:
    """`pop` on an empty line returns no ticket."""
    assert FairQueue(capacity=1, weights={}).pop(0.0).ticket is None


@pytest.mark.parametrize("rank", list(Rank))
def test_tickets_of_one_tenant_keep_their_order(rank: Rank) -> None:
    """First come, first served within a tenant and rank."""
    line = FairQueue(capacity=50, weights={}, sibling_capacity=50)
    tickets = [_ticket(rank=rank) for _ in range(20)]
    for ticket in tickets:
        line.push(ticket)
    assert _drain(line) == tickets


def test_what_siblings_ask_for_comes_right_behind_what_is_as_urgent_here() -> None:
    """A sibling's waiting caller goes before our speculation, and after our own caller."""
    line = FairQueue(capacity=50, weights={}, sibling_capacity=50)
    for rank in reversed(ORDER):
        line.push(_ticket(rank=rank))
    assert [ticket.rank for ticket in _drain(line)] == list(ORDER)


def test_siblings_wait_while_they_have_their_share() -> None:
    """Only what is our own is handed out then; the rest stays in line."""
    line = FairQueue(capacity=50, weights={}, sibling_capacity=50)
    theirs, own = _ticket(rank=Rank.SIBLING_LIVE), _ticket(rank=Rank.SHADOW)
    line.push(theirs)
    line.push(own)
    assert line.pop(0.0, may_be_siblings=False).ticket is own
    assert line.pop(0.0, may_be_siblings=False).ticket is None
    assert line.pop(0.0).ticket is theirs
