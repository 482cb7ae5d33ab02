"""A call's live events for those who watch it: kept for late comers, bounded for slow ones, encoded as JSON.

Overflow policy: each subscriber has a queue of `QUEUE_LIMIT` events and loses the oldest; so does the history.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict

from edge.call.observer import AgentSaid, CallEnded, CallerSaid, CallEvent, StateChanged, TurnTimed

QUEUE_LIMIT = 256  # a long call has a few events a second; this is about a minute of a socket that stands still
EVENT_NAMES = {
    StateChanged: "state_changed",
    CallerSaid: "caller_said",
    AgentSaid: "agent_said",
    TurnTimed: "turn_timed",
    CallEnded: "call_ended",
}


def encode_event(event: CallEvent) -> str:
    """One JSON object: `type` and the event's fields."""
    return json.dumps({"type": EVENT_NAMES[type(event)], **asdict(event)})


class Subscription:
    """One watcher's queue."""

    def __init__(self, history: deque[CallEvent]) -> None:
        self._events = deque(history, maxlen=QUEUE_LIMIT)
        self._has_event = asyncio.Event()

    def put(self, event: CallEvent) -> None:
        """Queue an event, at the cost of the oldest."""
        self._events.append(event)
        self._has_event.set()

    async def next(self) -> CallEvent:
        """The next event; CallEnded is the last one."""
        while not self._events:
            self._has_event.clear()
            await self._has_event.wait()
        return self._events.popleft()


class LiveEvents:
    """The observer of one call; hands its events to any number of subscribers."""

    def __init__(self) -> None:
        self._history: deque[CallEvent] = deque(maxlen=QUEUE_LIMIT)
        self._subscriptions: set[Subscription] = set()
        self._has_ended = False

    def observe(self, event: CallEvent) -> None:
        """Pass an event on; events after CallEnded are ignored."""
        if self._has_ended:
            return
        self._has_ended = isinstance(event, CallEnded)
        self._history.append(event)
        for subscription in self._subscriptions:
            subscription.put(event)

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """A queue that begins with the call's events so far."""
        subscription = Subscription(self._history)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
