"""What a node holds after a drill, and what of that is a leak."""

from dataclasses import replace
from typing import Any

import pytest

from bench.drills.holdings import (
    FEW,
    FILES,
    MEMORY_BYTES,
    MOST_OPEN,
    SOCKETS,
    WARM_AFTER_S,
    Holdings,
    ServiceHoldings,
    comparison,
    leaks,
)

MIB = 1024 * 1024
WORKER = ServiceHoldings(
    main=7,
    started=100,
    served_s=WARM_AFTER_S,
    processes=1,
    resident_bytes=200 * MIB,
    opened={"sockets": 12, "/records/bank.sqlite3": 2},
)
BEFORE = Holdings(slots=0, channels=0, bridges=0, run_files=3, sessions=2, services={"borough-calls@1": WORKER})


def after(worker: ServiceHoldings = WORKER, **counts: Any) -> Holdings:
    return replace(BEFORE, services={"borough-calls@1": worker}, **counts)


def with_one(name: str) -> Holdings:
    counts: dict[str, Any] = {name: 1}
    return replace(BEFORE, **counts)


def opened(**more: int) -> ServiceHoldings:
    return replace(WORKER, opened={**WORKER.opened, **more})


def test_a_node_that_let_everything_go_leaks_nothing() -> None:
    assert leaks(BEFORE, BEFORE) == []


@pytest.mark.parametrize("name", ["slots", "channels", "bridges"])
def test_nothing_of_a_call_may_be_left(name: str) -> None:
    assert leaks(BEFORE, with_one(name)) == [f"1 {name} held"]
    # Whatever was there before: then a call of ours ended badly, or somebody else's runs.
    assert leaks(with_one(name), with_one(name)) == [f"1 {name} held"]


def test_an_asterisk_that_cannot_be_asked_is_no_good_sign() -> None:
    assert leaks(BEFORE, after(channels=None)) == ["its channels could not be counted"]
    assert leaks(replace(BEFORE, channels=None), after(channels=None)) == []


def test_more_of_the_same_file_is_a_leak_and_a_tenant_more_is_none() -> None:
    assert leaks(BEFORE, after(opened(sockets=12 + SOCKETS))) == []
    assert leaks(BEFORE, after(opened(sockets=13 + SOCKETS))) == [f"borough-calls@1: sockets: {SOCKETS + 1} more open"]
    again = after(opened(**{"/records/bank.sqlite3": 3 + FEW}))
    assert leaks(BEFORE, again) == [f"borough-calls@1: /records/bank.sqlite3: {FEW + 1} more open"]
    tenants = {f"/records/{number}.sqlite3": 2 for number in range(FILES)}
    assert leaks(BEFORE, after(opened(**tenants))) == []
    assert leaks(BEFORE, after(opened(**tenants, **{"/one": 1}))) == [f"borough-calls@1: {FILES + 1} more files open"]


def test_memory_may_grow_within_a_bound() -> None:
    bound = round(WORKER.resident_bytes * 1.25) + MEMORY_BYTES
    assert leaks(BEFORE, after(replace(WORKER, resident_bytes=bound))) == []
    (found,) = leaks(BEFORE, after(replace(WORKER, resident_bytes=bound + MIB)))
    assert found == "borough-calls@1: 200 MiB of memory before, 315 MiB now"


def test_a_service_that_had_just_started_may_fill_its_caches() -> None:
    young = replace(WORKER, served_s=WARM_AFTER_S - 1)
    before = replace(BEFORE, services={"borough-calls@1": young})
    assert leaks(before, after(replace(WORKER, resident_bytes=1024 * MIB))) == []
    (found,) = leaks(before, after(replace(WORKER, resident_bytes=4097 * MIB)))
    assert found == "borough-calls@1: 200 MiB of memory before, 4097 MiB now"


def test_what_was_started_anew_is_held_against_limits_of_its_own() -> None:
    anew = replace(opened(sockets=900), main=8, started=900)
    assert leaks(BEFORE, after(anew)) == []
    too_many = replace(anew, opened={"sockets": MOST_OPEN + 1})
    assert leaks(BEFORE, after(too_many)) == [f"borough-calls@1: {MOST_OPEN + 1} files open"]
    said = comparison(BEFORE, after(anew))
    assert said["services"]["borough-calls@1"]["was_restarted"]
    assert said["services"]["borough-calls@1"]["open_files"] == [14, 902]
    assert said["sessions"] == [2, 2]


def test_a_node_without_services_was_not_looked_at() -> None:
    assert leaks(BEFORE, replace(BEFORE, services={})) == ["none of its services was found"]


def test_files_that_pile_up_in_the_run_folder_are_a_leak() -> None:
    assert leaks(BEFORE, after(run_files=30)) == ["files beside its sockets: 3 before, 30 now"]
