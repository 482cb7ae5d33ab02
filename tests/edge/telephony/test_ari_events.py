"""ARI events are read as Asterisk 22.10 writes them, and nonsense is an error."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.telephony.ari_events import (
    ApplicationReplaced,
    ChannelDestroyed,
    ChannelDtmfReceived,
    ChannelHangupRequest,
    ChannelStateChange,
    StasisEnd,
    StasisStart,
    parse_event,
)

CHANNEL = {
    "id": "node-1795410471.0",
    "name": "PJSIP/trunk-00000000",
    "state": "Ring",
    "protocol_id": "7a0c",
    "caller": {"name": "", "number": "+15550123"},
    "connected": {"name": "", "number": ""},
    "accountcode": "",
    "dialplan": {"context": "incoming", "exten": "+15550199", "priority": 4, "app_name": "Stasis", "app_data": "x"},
    "creationtime": "2026-11-23T05:08:19.556+0000",
    "language": "en",
}


def test_stasis_start_carries_both_numbers() -> None:
    """The called number is the dialplan's extension."""
    event = parse_event(json.dumps({"type": "StasisStart", "args": ["inbound"], "channel": CHANNEL}))
    assert isinstance(event, StasisStart)
    assert event.arguments == ("inbound",)
    assert (event.channel.caller_number, event.channel.extension) == ("+15550123", "+15550199")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"type": "StasisEnd", "channel": CHANNEL}, StasisEnd(channel_id=CHANNEL["id"])),  # type: ignore[arg-type]
        (
            {"type": "ChannelDtmfReceived", "digit": "#", "channel": CHANNEL},
            ChannelDtmfReceived(channel_id="node-1795410471.0", digit="#"),
        ),
        (
            {"type": "ChannelHangupRequest", "cause": 16, "channel": CHANNEL},
            ChannelHangupRequest(channel_id="node-1795410471.0", cause=16),
        ),
        (
            {"type": "ChannelHangupRequest", "channel": CHANNEL},
            ChannelHangupRequest(channel_id="node-1795410471.0", cause=None),
        ),
        (
            {"type": "ChannelDestroyed", "cause": 17, "cause_txt": "User busy", "channel": CHANNEL},
            ChannelDestroyed(channel_id="node-1795410471.0", cause=17),
        ),
        (
            {"type": "ChannelStateChange", "channel": CHANNEL},
            ChannelStateChange(channel_id="node-1795410471.0", state="Ring"),
        ),
        ({"type": "ApplicationReplaced", "application": "calls-0"}, ApplicationReplaced()),
        ({"type": "ChannelVarset", "variable": "X"}, None),
    ],
)
def test_event_is_read(message: dict[str, object], expected: object) -> None:
    """Each kind that we listen to; others are nothing."""
    assert parse_event(json.dumps(message)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"type": 1}', '{"type": "StasisEnd"}', '{"type": "StasisStart", "channel": {"id": 1}}'],
)
def test_nonsense_is_refused(text: str) -> None:
    """As ValueError, whatever is wrong with it."""
    with pytest.raises(ValueError, match=r".*"):
        parse_event(text)


@given(
    st.recursive(st.none() | st.text() | st.integers(), lambda each: st.lists(each) | st.dictionaries(st.text(), each))
)
def test_any_json_is_read_or_refused(value: object) -> None:
    """Never another exception."""
    try:
        parse_event(json.dumps({"type": "StasisStart", "channel": value, "args": value}))
    except ValueError:
        return
