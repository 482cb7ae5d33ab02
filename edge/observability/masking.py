"""Takes personal data out of log events. Pure: one value in, one value out.

Three rules, in this order:
1. A key that names personal content (`transcript`, `caller_number`) loses its value, whatever it is.
2. A key that names one of our own ids or a time keeps it: ids are what an operator searches for.
3. Everywhere else e-mail addresses and runs of seven or more digits (however spaced) are replaced. Seven, because
   that is the shortest telephone number that reaches a person. A number under a key with a unit (`_ms`, `_bytes`) is
   a measurement and stays.

It errs on the side of masking: an IP address or a date inside a sentence goes too.
"""

import math
import re
from collections.abc import Mapping

MASK = "<masked>"
NUMBER_MASK = "<number>"
EMAIL_MASK = "<email>"

PERSONAL_KEYS = frozenset({
    "agent_text", "answer", "arguments", "audio", "body", "briefing", "caller", "caller_name", "caller_number",
    "caller_text", "content", "destination", "digit", "digits", "display_name", "dtmf", "email", "exchange", "fields",
    "first_name", "from_number", "hints", "history", "last_name", "messages", "name", "number", "pcm", "phone",
    "phone_number", "prompt", "question", "said", "slots", "speech", "summary", "text", "to_number", "transcript",
    "user_name", "utterance", "words",
})  # fmt: skip
IDENTIFIER_KEYS = frozenset({
    "bridge_id", "call_id", "channel_id", "connection_id", "item_id", "leg", "request_id", "sha256", "span_id",
    "subject_id", "timestamp", "trace_id", "turn_id", "version",
})  # fmt: skip
UNIT_SUFFIXES = ("_ms", "_s", "_ns", "_hz", "_samples", "_bytes", "_frames", "_count")
IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,63}")

SEVEN_DIGITS = re.compile(r"\+?\d(?:[^\w\d]{0,3}\d){6,}")
# Atoms are bounded (RFC 5321 4.5.3.1), so that a long line without @ costs linear time.
EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){0,8}")
LONGEST_TEXT = 4000  # characters; a traceback fits, a recording does not


def mask_value(key: str, value: object) -> object:
    """What may be logged of `value` under `key`."""
    if key in PERSONAL_KEYS:
        return MASK
    if key in IDENTIFIER_KEYS and isinstance(value, str) and IDENTIFIER.fullmatch(value):
        return value
    match value:
        case bool() | None:
            masked: object = value
        case int() | float():
            masked = _mask_number(key, value)
        case bytes() | bytearray() | memoryview():
            masked = f"<{len(value)} bytes>"
        case Mapping():
            masked = {mask_text(str(name)): mask_value(str(name), inner) for name, inner in value.items()}
        case list() | tuple() | set() | frozenset():
            masked = [mask_value("", inner) for inner in value]
        case _:
            masked = mask_text(str(value))
    return masked


def mask_text(text: str) -> str:
    """The text without e-mail addresses and long digit strings, cut to a bounded length."""
    return SEVEN_DIGITS.sub(NUMBER_MASK, EMAIL.sub(EMAIL_MASK, text[:LONGEST_TEXT]))


def _mask_number(key: str, value: float) -> object:
    if isinstance(value, float) and math.isfinite(value):
        value = round(value, 3)
    if key.endswith(UNIT_SUFFIXES):
        return value
    return NUMBER_MASK if SEVEN_DIGITS.search(repr(value)) else value
