"""The ARI events we listen to, as dataclasses named as Asterisk names them (events.json of Asterisk 22).

Pure: JSON text in, events out. Fields that we do not use are not read.
"""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel as ARI describes it."""

    channel_id: str
    name: str
    # Down, Ring, Ringing, Up, ...
    state: str
    caller_number: str
    # Extension that the channel is at: the called number of an incoming call.
    extension: str
    variables: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StasisStart:
    """A channel entered our app."""

    channel: Channel
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StasisEnd:
    """A channel left our app."""

    channel_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelDtmfReceived:
    """A digit ended on a channel."""

    channel_id: str
    digit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelHangupRequest:
    """The channel's far end hung up; the channel is about to go."""

    channel_id: str
    cause: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelDestroyed:
    """The channel is gone; the cause is Q.850's."""

    channel_id: str
    cause: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStateChange:
    """The channel's state changed."""

    channel_id: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationReplaced:
    """Another websocket registered the same app; this one gets no more events."""


AriEvent = (
    StasisStart
    | StasisEnd
    | ChannelDtmfReceived
    | ChannelHangupRequest
    | ChannelDestroyed
    | ChannelStateChange
    | ApplicationReplaced
)

# What we ask Asterisk to send; ChannelVarset alone would be several per call and leg.
EVENT_TYPES = (
    "StasisStart",
    "StasisEnd",
    "ChannelDtmfReceived",
    "ChannelHangupRequest",
    "ChannelDestroyed",
    "ChannelStateChange",
    "ApplicationReplaced",
)


def parse_event(text: str) -> AriEvent | None:
    """Return the event, or None for one we do not listen to. Raises ValueError for what is no ARI event."""
    message = as_object(json.loads(text))
    kind = as_text(message, "type")
    if kind not in EVENT_TYPES:
        return None
    if kind == "ApplicationReplaced":
        return ApplicationReplaced()
    return _channel_event(kind, message)


def _channel_event(kind: str, message: dict[str, object]) -> AriEvent:
    channel = parse_channel(message.get("channel"))
    cause = message.get("cause")
    match kind:
        case "StasisStart":
            return StasisStart(channel=channel, arguments=tuple(as_texts(message.get("args"))))
        case "StasisEnd":
            return StasisEnd(channel_id=channel.channel_id)
        case "ChannelDtmfReceived":
            return ChannelDtmfReceived(channel_id=channel.channel_id, digit=as_text(message, "digit"))
        case "ChannelHangupRequest":
            return ChannelHangupRequest(channel_id=channel.channel_id, cause=cause if isinstance(cause, int) else None)
        case "ChannelDestroyed":
            return ChannelDestroyed(channel_id=channel.channel_id, cause=cause if isinstance(cause, int) else 0)
        case _:
            return ChannelStateChange(channel_id=channel.channel_id, state=channel.state)


def parse_channel(value: object) -> Channel:
    """Read a channel out of a message. Raises ValueError."""
    channel = as_object(value)
    variables = as_object(channel.get("channelvars", {}))
    return Channel(
        channel_id=as_text(channel, "id"),
        name=as_text(channel, "name"),
        state=as_text(channel, "state"),
        caller_number=as_text(as_object(channel.get("caller", {})), "number", ""),
        extension=as_text(as_object(channel.get("dialplan", {})), "exten", ""),
        variables={key: str(each) for key, each in variables.items()},
    )


def as_object(value: object) -> dict[str, object]:
    """Narrow to a JSON object. Raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, not {type(value).__name__}")  # noqa: TRY004 - bad input, not a bug
    return value


def as_text(message: dict[str, object], key: str, default: str | None = None) -> str:
    """Return a string field. Raises ValueError."""
    value = message.get(key, default)
    if not isinstance(value, str):
        raise ValueError(f"{key!r} must be a string, not {type(value).__name__}")  # noqa: TRY004 - bad input, not a bug
    return value


def as_texts(value: object) -> list[str]:
    """Narrow to a list of strings. Raises ValueError."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError("expected a list of strings")
    return value
