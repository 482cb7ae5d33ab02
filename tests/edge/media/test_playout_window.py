"""The count of queued audio is never too low, and marks come back under their names."""

from hypothesis import given
from hypothesis import strategies as st

from edge.media.playout_window import CHECKPOINT_BYTES, PlayoutWindow


def test_checkpoints_come_every_200_ms() -> None:
    """Small pieces share one."""
    window = PlayoutWindow(64_000)
    assert window.add(CHECKPOINT_BYTES - 640) is None
    number = window.add(640)
    assert number is not None
    assert window.queued_bytes == CHECKPOINT_BYTES
    assert window.acknowledge(number) is None
    assert window.is_drained


def test_mark_returns_under_its_name_once() -> None:
    """Two marks of one name are two marks; an unknown number is nobody's."""
    window = PlayoutWindow(64_000)
    window.add(640)
    first, second = window.mark("word"), window.mark("word")
    assert first != second
    assert window.acknowledge(first) == "word"
    assert window.acknowledge(first) is None
    assert window.acknowledge(second) == "word"
    assert window.acknowledge("silence1") is None


def test_flush_forgets_marks() -> None:
    """Their acknowledgements may still be on the way and count for nothing."""
    window = PlayoutWindow(64_000)
    window.add(640)
    number = window.mark("never")
    window.flush()
    assert window.is_drained
    assert window.acknowledge(number) is None


def test_end_is_asked_for_only_behind_unmarked_audio() -> None:
    """No second mark at the same place."""
    window = PlayoutWindow(64_000)
    assert window.end() is None
    window.add(640)
    assert window.end() is not None
    assert window.end() is None


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=40))
def test_queued_is_never_less_than_what_was_not_acknowledged(steps: list[tuple[int, bool]]) -> None:
    """Whatever is acknowledged in order: room plus queue is the limit, and all acknowledged means drained."""
    window = PlayoutWindow(64_000)
    outstanding: list[str] = []
    sent = 0
    for count, is_acknowledged in steps:
        number = window.add(640 * count)
        sent += 640 * count
        outstanding += [number] if number is not None else []
        assert window.queued_bytes <= sent
        assert window.room_bytes == max(0, 64_000 - window.queued_bytes)
        if outstanding and is_acknowledged:
            window.acknowledge(outstanding.pop(0))
    last = window.end()
    for number in [*outstanding, *([last] if last is not None else [])]:
        window.acknowledge(number)
    assert window.is_drained
