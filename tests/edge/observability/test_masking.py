"""No telephone number, e-mail address or spoken word gets through to a log line."""

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import cast

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from edge.observability.logs import bind_call, configure_logging
from edge.observability.masking import EMAIL_MASK, IDENTIFIER_KEYS, NUMBER_MASK, PERSONAL_KEYS, mask_text, mask_value

DIGIT_RUN = re.compile(r"\d(?:[\s().\-/]{0,2}\d){6,}")

numbers = st.from_regex(r"\+?\d(?:[ ()./-]{0,2}\d){6,14}", fullmatch=True)
texts = st.text(max_size=30) | numbers | st.tuples(st.text(max_size=10), numbers, st.text(max_size=10)).map("".join)
scalars = texts | st.integers() | st.floats() | st.none() | st.booleans() | st.binary(max_size=20)
keys = st.text(max_size=12) | numbers | st.sampled_from(sorted(PERSONAL_KEYS))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


def leaves(value: object) -> Iterator[str]:
    """All scalars of a logged value, as text; names of keys included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield str(value)


@given(keys.filter(lambda key: key not in IDENTIFIER_KEYS and "_" not in key), values)
@example("event", "call +49 (30) 123-45-67 back")
@example("event", "٠٣٠١٢٣٤٥٦٧")
@example("value", 301234567)
@example("value", 0.12345678901)
@example("value", {"301234567": [301234567]})
def test_no_number_of_seven_digits_ever_comes_out(key: str, value: object) -> None:
    for text in leaves(mask_value(key, value)):
        assert not DIGIT_RUN.search(text), text


@given(st.text(max_size=40), st.emails(), st.text(max_size=40))
def test_no_email_address_comes_out(before: str, email: str, after: str) -> None:
    masked = mask_text(f"{before} {email} {after}")
    assert EMAIL_MASK in masked
    assert email not in masked


@pytest.mark.parametrize("key", sorted(PERSONAL_KEYS))
def test_personal_keys_lose_their_value_at_any_depth(key: str) -> None:
    assert "secret" not in json.dumps(mask_value("event", {"outer": [{key: "secret"}, {key: ["secret"]}]}))


def test_our_ids_measurements_and_times_stay() -> None:
    kept = {"call_id": "1785312345.123", "timestamp": "2026-11-23T10:00:00Z", "took_ms": 12345678, "is_ok": True}
    assert mask_value("fields_of_line", kept) == kept


def test_an_id_that_is_no_id_is_masked_like_any_text() -> None:
    assert mask_value("call_id", "the number is 030 123 45 67") == f"the number is {NUMBER_MASK}"


def test_a_long_line_costs_linear_time() -> None:
    mask_text("a." * 100_000)
    mask_text("1 " * 100_000)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging(worker="calls-1", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def logged(stream: io.StringIO) -> list[dict[str, object]]:
    return [cast("dict[str, object]", json.loads(line)) for line in stream.getvalue().splitlines()]


def test_a_line_carries_its_call_and_no_words_of_the_caller(lines: io.StringIO) -> None:
    bind_call(call_id="c1", tenant="acme")
    structlog.get_logger("edge.call").info("turn_committed", transcript="my name is Ada", caller_number="+4930123456")
    (line,) = logged(lines)
    assert line["event"] == "turn_committed"
    assert (line["call_id"], line["tenant"], line["worker"]) == ("c1", "acme", "calls-1")
    assert (line["transcript"], line["caller_number"]) == ("<masked>", "<masked>")


def test_lines_of_libraries_and_tracebacks_are_masked_too(lines: io.StringIO) -> None:
    logging.getLogger("library").warning("INVITE from %s", "+4930123456")
    try:
        int("bad number +4930123456 of ada@example.org")
    except ValueError:
        structlog.get_logger().exception("call_failed")
    first, second = logged(lines)
    assert first["event"] == f"INVITE from {NUMBER_MASK}"
    assert "'bad number <number> of <email>'" in str(second["exception"])
    assert "4930123456" not in lines.getvalue()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_text_that_is_masked_as_well(lines: io.StringIO) -> None:
    terminal = Terminal()
    configure_logging(worker="calls-1", stream=terminal)
    structlog.get_logger().info("call_started", note="+4930123456")
    assert "call_started" in terminal.getvalue()
    assert "4930123456" not in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
