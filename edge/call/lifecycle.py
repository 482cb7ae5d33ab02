"""The life of a call as a table. Pure: no I/O, no clock, no logging.

Theory of operation. A call is OFFERED when its leg arrives and nothing has been promised. Only after a capacity slot
is held does it become CONNECTING: the media path is built and then the leg is answered. A call that is adopted from a
dead worker is CONNECTING, too, and goes on in TALKING, or WITH_HUMAN where caller and human talk already. In TALKING
the agent and the caller share the floor (edge.turn.floor rules there). A transfer leaves TALKING for TRANSFERRING,
where the caller still is ours and hears hold audio; it ends WITH_HUMAN or back in TALKING. CLOSING lets the goodbye
drain; from every state the caller may hang up, and whatever breaks leads to ENDED; the record is closed there in any
case.

Each entry maps (state, event) to (next state, actions). What is not in the table is a bug of ours: `advance` raises
IllegalTransitionError and nothing changes.
"""

from dataclasses import dataclass
from enum import StrEnum, auto

from edge.call.errors import IllegalTransitionError


class CallState(StrEnum):
    OFFERED = auto()
    CONNECTING = auto()
    TALKING = auto()
    TRANSFERRING = auto()
    WITH_HUMAN = auto()
    CLOSING = auto()
    ENDED = auto()


class CallEvent(StrEnum):
    SLOT_TAKEN = auto()
    SLOT_REFUSED = auto()
    NUMBER_UNKNOWN = auto()
    ANSWERED = auto()
    ADOPTED = auto()
    ADOPTED_WITH_HUMAN = auto()
    TRANSFER_STARTED = auto()
    TRANSFER_CONNECTED = auto()
    TRANSFER_FAILED = auto()
    GOODBYE_STARTED = auto()
    GOODBYE_HEARD = auto()
    CALLER_HUNG_UP = auto()
    HUMAN_FINISHED = auto()
    FAILED = auto()


class CallAction(StrEnum):
    """What the shell does on a transition, in order."""

    GREET = auto()
    RESUME = auto()
    REFUSE_CONGESTION = auto()
    REFUSE_UNALLOCATED = auto()
    HANG_UP = auto()
    HANG_UP_FAILED = auto()


_S, _E, _A = CallState, CallEvent, CallAction
Transition = tuple[CallState, tuple[CallAction, ...]]

TRANSITIONS: dict[tuple[CallState, CallEvent], Transition] = {
    (_S.OFFERED, _E.SLOT_TAKEN): (_S.CONNECTING, ()),
    (_S.OFFERED, _E.SLOT_REFUSED): (_S.ENDED, (_A.REFUSE_CONGESTION,)),
    (_S.OFFERED, _E.NUMBER_UNKNOWN): (_S.ENDED, (_A.REFUSE_UNALLOCATED,)),
    (_S.CONNECTING, _E.ANSWERED): (_S.TALKING, (_A.GREET,)),
    (_S.CONNECTING, _E.ADOPTED): (_S.TALKING, (_A.RESUME,)),
    (_S.CONNECTING, _E.ADOPTED_WITH_HUMAN): (_S.WITH_HUMAN, ()),
    (_S.TALKING, _E.TRANSFER_STARTED): (_S.TRANSFERRING, ()),
    (_S.TALKING, _E.GOODBYE_STARTED): (_S.CLOSING, ()),
    (_S.TRANSFERRING, _E.TRANSFER_CONNECTED): (_S.WITH_HUMAN, ()),
    (_S.TRANSFERRING, _E.TRANSFER_FAILED): (_S.TALKING, ()),
    (_S.WITH_HUMAN, _E.HUMAN_FINISHED): (_S.ENDED, ()),
    (_S.CLOSING, _E.GOODBYE_HEARD): (_S.ENDED, (_A.HANG_UP,)),
    **{
        (state, _E.CALLER_HUNG_UP): (_S.ENDED, ())
        for state in (_S.CONNECTING, _S.TALKING, _S.TRANSFERRING, _S.WITH_HUMAN, _S.CLOSING)
    },
    (_S.OFFERED, _E.CALLER_HUNG_UP): (_S.ENDED, ()),
    **{
        (state, _E.FAILED): (_S.ENDED, (_A.HANG_UP_FAILED,))
        for state in (_S.OFFERED, _S.CONNECTING, _S.TALKING, _S.TRANSFERRING, _S.WITH_HUMAN, _S.CLOSING)
    },
}


@dataclass(slots=True)
class CallLifecycle:
    """The current state of one call; `advance` is the only thing that moves it."""

    state: CallState = CallState.OFFERED

    def advance(self, event: CallEvent) -> tuple[CallAction, ...]:
        """Apply an event and return the actions it asks for.

        Raises IllegalTransitionError, leaving the state as it was, when the event has no place here.
        """
        try:
            following, actions = TRANSITIONS[self.state, event]
        except KeyError:
            raise IllegalTransitionError(f"{event} has no place in state {self.state}") from None
        self.state = following
        return actions
