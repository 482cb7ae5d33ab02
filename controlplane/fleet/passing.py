"""What may come out of a region's links without nats-server refusing it, and how ours looks. Pure.

nats-server 2.15 checks subjects, and not even all of them. The rest is judged here: what carries more than a sequence
number, or wants its answer at a place that no node of ours has, may carry words. A refusal names the kind only.

What it cannot do: somebody who owns a node can hide a few bits in sequence numbers and inboxes. It takes away text.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from contract.nats_log import RefusalKind
from contract.streams import mirrors
from contract.subjects import inbox, link_events

# Nine digits are a stream of decades, and one less than a telephone number.
_POSITION = re.compile(r"[0-9]{1,9}")
# The probe is no JSON, so that JetStream answers and does nothing (edge/sync/watch.py).
_RESET = re.compile(rb'\??|\{"seq":\d{1,9}\}')
_FLOW_CONTROL_TOKEN = re.compile(r"[A-Za-z0-9]{4}")
_FLOW_CONTROL_HEADERS = frozenset({"Nats-Last-Consumer", "Nats-Last-Stream"})
# As client libraries and the server's mirrors make them up.
_INBOX_TOKENS = re.compile(r"(\.[A-Za-z0-9]{16,32}){1,2}")
_MIRROR_REPLY = re.compile(r"\$JSC\.R\.[A-Za-z0-9]{8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A message as it came over a link, under the subject that the link gave it."""

    region: str
    subject: str
    reply: str = ""
    headers: Mapping[str, str] | None = None
    payload: bytes = b""


def region_and_subject(heard: str) -> tuple[str, str]:
    """Of a copy's subject."""
    _, region, subject = heard.split(".", 2)
    return region, subject


def is_of_links(passed: Passed) -> bool:
    """Whether the hub's server says it of a link, and no link says it."""
    return passed.subject in link_events(passed.region)


def refusal_of(passed: Passed) -> RefusalKind | None:
    """Why it is none of ours, if it is not."""
    if passed.subject.startswith(f"up.{passed.region}."):
        node = passed.subject.rpartition(".")[2]
        return None if not passed.reply or _is_inbox(passed, node) else RefusalKind.ANSWER
    for mirror in mirrors(passed.region):
        if passed.subject == mirror.reset_subject:
            return _of_reset(passed)
        if passed.subject.startswith(mirror.flow_control_subject.removesuffix("*")):
            return None if _is_flow_control(passed) else RefusalKind.INTERNAL
    return RefusalKind.INTERNAL


def _of_reset(passed: Passed) -> RefusalKind | None:
    if _RESET.fullmatch(passed.payload) is None or passed.headers:
        return RefusalKind.INTERNAL
    is_answerable = not passed.reply or _MIRROR_REPLY.fullmatch(passed.reply) or _is_inbox(passed, None)
    return None if is_answerable else RefusalKind.ANSWER


def _is_inbox(passed: Passed, node: str | None) -> bool:
    """Whether the answer is wanted at an inbox of this node, or of any where the subject names none."""
    if node is None:
        node = passed.reply.removeprefix("_INBOX.").split(".")[1:2][0] if passed.reply.count(".") > 2 else ""
    own = inbox(passed.region, node)
    return passed.reply.startswith(own) and _INBOX_TOKENS.fullmatch(passed.reply[len(own) :]) is not None


def _is_flow_control(passed: Passed) -> bool:
    return (
        not passed.payload
        and not passed.reply
        and _FLOW_CONTROL_TOKEN.fullmatch(passed.subject.rpartition(".")[2]) is not None
        and all(_is_position(name, value) for name, value in (passed.headers or {}).items())
    )


def _is_position(name: str, value: str) -> bool:
    return name in _FLOW_CONTROL_HEADERS and _POSITION.fullmatch(value) is not None
