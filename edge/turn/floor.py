"""Who has the floor: the turn-taking state machine of a call.

Theory of operation. The session turns what it observes into events, applies each to the `Floor`, and carries out the
actions in order. Nothing else moves the state.

    LISTENING --speech--> CALLER_SPEAKING <--pause/resume--> CALLER_PAUSED --endpoint--> THINKING --reply--> SPEAKING
        ^                                                                                                      |
        +-------------------------------------------- playout finished ----------------------------------------+

* A pause starts *speculation*: recognise, understand, prepare the reply, with no side effect. Going on drops it at no
  visible cost. The endpoint commits it: only then is the turn real. The reply may be ready at that moment or later;
  `THINKING` lasts until `REPLY_READY`.
* Speech while we speak holds the playout at once and is *arbitrated* (`barge_in`): confirmed, the caller has the floor
  and the reply is flushed; rejected (a cough, "uh-huh", our echo), it is resumed where it stopped. The caller may pause
  and go on meanwhile, hence two arbitrating states. A verdict may also come late, after the playout was resumed.
* Speech in `THINKING`, or continuing speech (`CONTINUATION_CONFIRMED`) just after the reply began, means that we
  committed too early. The reply is dropped or flushed and the utterance is merged with what follows: the session takes
  the turn back from the conversation and recognises the whole utterance again. Should the sound prove to be noise, the
  merged transcript is the old one and the same reply is made again: a cough costs time, never the reply.
* A prompt that must be heard whole (consent) is started by `PROTECTED_REPLY_READY`; speech over it neither holds it
  nor counts as an answer, except when it outlasts the prompt.
* Digits pressed stop our speech; the session collects them and reports the endpoint, possibly without any speech.

Deadlines belong to the session: arbitration 0.5-0.8 s (`BargeIn.consider`), thinking by its own budget (then
`NOTHING_TO_SAY` or an apology as reply), an utterance at most `max_utterance_s` (endpoint while still speaking).
An event that is not in the table raises `IllegalFloorEventError` and changes nothing.
"""

from enum import StrEnum


class FloorState(StrEnum):
    LISTENING = "listening"
    CALLER_SPEAKING = "caller_speaking"
    CALLER_PAUSED = "caller_paused"
    THINKING = "thinking"
    AGENT_SPEAKING = "agent_speaking"
    ARBITRATING = "arbitrating"
    ARBITRATING_PAUSED = "arbitrating_paused"
    PROTECTED = "protected"
    PROTECTED_OVERLAP = "protected_overlap"
    ENDED = "ended"


class FloorEvent(StrEnum):
    SPEECH_STARTED = "speech_started"
    SPEECH_PAUSED = "speech_paused"
    SPEECH_RESUMED = "speech_resumed"
    UTTERANCE_REJECTED = "utterance_rejected"
    ENDPOINT_REACHED = "endpoint_reached"
    REPLY_READY = "reply_ready"
    PROTECTED_REPLY_READY = "protected_reply_ready"
    NOTHING_TO_SAY = "nothing_to_say"
    PLAYOUT_FINISHED = "playout_finished"
    BARGE_IN_CONFIRMED = "barge_in_confirmed"
    CONTINUATION_CONFIRMED = "continuation_confirmed"
    BARGE_IN_REJECTED = "barge_in_rejected"
    DIGIT_PRESSED = "digit_pressed"
    CALL_ENDED = "call_ended"


class FloorAction(StrEnum):
    START_SPECULATION = "start_speculation"
    """Recognise the open utterance and prepare a reply, without side effects."""
    DROP_SPECULATION = "drop_speculation"
    """Cancel recognition and preparation that run for the open utterance, if any."""
    DROP_UTTERANCE = "drop_utterance"
    """Forget the open utterance (`SpeechActivity.discard`)."""
    COMMIT_TURN = "commit_turn"
    """The utterance is the caller's turn: release it, make the prepared reply real or prepare one now."""
    MERGE_UTTERANCE = "merge_utterance"
    """Take the committed turn back; what follows belongs to it."""
    START_PLAYOUT = "start_playout"
    PAUSE_PLAYOUT = "pause_playout"
    RESUME_PLAYOUT = "resume_playout"
    FLUSH_PLAYOUT = "flush_playout"
    """Stop our speech and drop what is queued; history keeps what was heard (`heard`)."""
    DROP_REPLY = "drop_reply"
    """Cancel the reply that is being made; nothing of it was heard."""


class IllegalFloorEventError(Exception):
    """An event came in a state where it cannot happen: a defect of the session that drives the floor."""

    def __init__(self, state: FloorState, event: FloorEvent) -> None:
        super().__init__(f"{event} cannot happen while {state}")
        self.state = state
        self.event = event


_S = FloorState
_E = FloorEvent
_A = FloorAction
Transition = tuple[FloorState, tuple[FloorAction, ...]]

TRANSITIONS: dict[FloorState, dict[FloorEvent, Transition]] = {
    _S.LISTENING: {
        _E.SPEECH_STARTED: (_S.CALLER_SPEAKING, ()),
        _E.SPEECH_RESUMED: (_S.CALLER_SPEAKING, ()),
        _E.SPEECH_PAUSED: (_S.LISTENING, (_A.DROP_UTTERANCE,)),
        _E.UTTERANCE_REJECTED: (_S.LISTENING, (_A.DROP_UTTERANCE,)),
        _E.DIGIT_PRESSED: (_S.LISTENING, ()),
        _E.ENDPOINT_REACHED: (_S.THINKING, (_A.COMMIT_TURN,)),
        _E.REPLY_READY: (_S.AGENT_SPEAKING, (_A.START_PLAYOUT,)),
        _E.PROTECTED_REPLY_READY: (_S.PROTECTED, (_A.START_PLAYOUT,)),
    },
    _S.CALLER_SPEAKING: {
        _E.SPEECH_PAUSED: (_S.CALLER_PAUSED, (_A.START_SPECULATION,)),
        _E.DIGIT_PRESSED: (_S.CALLER_SPEAKING, ()),
        _E.UTTERANCE_REJECTED: (_S.LISTENING, (_A.DROP_SPECULATION, _A.DROP_UTTERANCE)),
        # The utterance grew too long, or pressed digits completed the answer.
        _E.ENDPOINT_REACHED: (_S.THINKING, (_A.COMMIT_TURN,)),
    },
    _S.CALLER_PAUSED: {
        _E.SPEECH_RESUMED: (_S.CALLER_SPEAKING, (_A.DROP_SPECULATION,)),
        _E.SPEECH_STARTED: (_S.CALLER_SPEAKING, (_A.DROP_SPECULATION,)),
        _E.UTTERANCE_REJECTED: (_S.LISTENING, (_A.DROP_SPECULATION, _A.DROP_UTTERANCE)),
        _E.DIGIT_PRESSED: (_S.CALLER_PAUSED, ()),
        _E.ENDPOINT_REACHED: (_S.THINKING, (_A.COMMIT_TURN,)),
    },
    _S.THINKING: {
        _E.SPEECH_RESUMED: (_S.CALLER_SPEAKING, (_A.DROP_REPLY, _A.MERGE_UTTERANCE)),
        _E.SPEECH_STARTED: (_S.CALLER_SPEAKING, (_A.DROP_REPLY, _A.MERGE_UTTERANCE)),
        _E.SPEECH_PAUSED: (_S.THINKING, ()),
        _E.DIGIT_PRESSED: (_S.THINKING, ()),
        _E.REPLY_READY: (_S.AGENT_SPEAKING, (_A.START_PLAYOUT,)),
        _E.PROTECTED_REPLY_READY: (_S.PROTECTED, (_A.START_PLAYOUT,)),
        _E.NOTHING_TO_SAY: (_S.LISTENING, (_A.DROP_UTTERANCE,)),
    },
    _S.AGENT_SPEAKING: {
        _E.SPEECH_STARTED: (_S.ARBITRATING, (_A.PAUSE_PLAYOUT,)),
        _E.SPEECH_RESUMED: (_S.ARBITRATING, (_A.PAUSE_PLAYOUT,)),
        # The end of speech that was rejected while it went on.
        _E.SPEECH_PAUSED: (_S.AGENT_SPEAKING, ()),
        _E.BARGE_IN_CONFIRMED: (_S.CALLER_PAUSED, (_A.FLUSH_PLAYOUT, _A.START_SPECULATION)),
        _E.CONTINUATION_CONFIRMED: (
            _S.CALLER_PAUSED,
            (_A.FLUSH_PLAYOUT, _A.MERGE_UTTERANCE, _A.START_SPECULATION),
        ),
        _E.DIGIT_PRESSED: (_S.LISTENING, (_A.FLUSH_PLAYOUT, _A.DROP_UTTERANCE)),
        # After a reply that was heard, speech is never the rest of the turn before, however short the reply.
        _E.PLAYOUT_FINISHED: (_S.LISTENING, (_A.DROP_UTTERANCE,)),
        # A second part of the reply (after a tool ran) follows without a gap.
        _E.REPLY_READY: (_S.AGENT_SPEAKING, (_A.START_PLAYOUT,)),
        _E.PROTECTED_REPLY_READY: (_S.PROTECTED, (_A.START_PLAYOUT,)),
    },
    _S.ARBITRATING: {
        _E.SPEECH_PAUSED: (_S.ARBITRATING_PAUSED, (_A.START_SPECULATION,)),
        _E.BARGE_IN_CONFIRMED: (_S.CALLER_SPEAKING, (_A.FLUSH_PLAYOUT,)),
        _E.CONTINUATION_CONFIRMED: (_S.CALLER_SPEAKING, (_A.FLUSH_PLAYOUT, _A.MERGE_UTTERANCE)),
        _E.BARGE_IN_REJECTED: (_S.AGENT_SPEAKING, (_A.DROP_UTTERANCE, _A.RESUME_PLAYOUT)),
        _E.DIGIT_PRESSED: (_S.CALLER_SPEAKING, (_A.FLUSH_PLAYOUT,)),
        # The last mark was on its way when we paused: everything was heard, so nothing is left to protect.
        _E.PLAYOUT_FINISHED: (_S.CALLER_SPEAKING, (_A.FLUSH_PLAYOUT,)),
        _E.REPLY_READY: (_S.ARBITRATING, (_A.START_PLAYOUT,)),
    },
    _S.ARBITRATING_PAUSED: {
        _E.SPEECH_RESUMED: (_S.ARBITRATING, (_A.DROP_SPECULATION,)),
        _E.SPEECH_STARTED: (_S.ARBITRATING, (_A.DROP_SPECULATION,)),
        # Its recognition is the speculation: it goes on.
        _E.BARGE_IN_CONFIRMED: (_S.CALLER_PAUSED, (_A.FLUSH_PLAYOUT,)),
        _E.CONTINUATION_CONFIRMED: (
            _S.CALLER_PAUSED,
            (_A.FLUSH_PLAYOUT, _A.DROP_SPECULATION, _A.MERGE_UTTERANCE, _A.START_SPECULATION),
        ),
        _E.BARGE_IN_REJECTED: (_S.AGENT_SPEAKING, (_A.DROP_UTTERANCE, _A.RESUME_PLAYOUT)),
        _E.DIGIT_PRESSED: (_S.CALLER_PAUSED, (_A.FLUSH_PLAYOUT,)),
        _E.PLAYOUT_FINISHED: (_S.CALLER_PAUSED, (_A.FLUSH_PLAYOUT,)),
        _E.REPLY_READY: (_S.ARBITRATING_PAUSED, (_A.START_PLAYOUT,)),
    },
    _S.PROTECTED: {
        _E.SPEECH_STARTED: (_S.PROTECTED_OVERLAP, ()),
        _E.SPEECH_RESUMED: (_S.PROTECTED_OVERLAP, ()),
        _E.SPEECH_PAUSED: (_S.PROTECTED, (_A.DROP_UTTERANCE,)),
        _E.DIGIT_PRESSED: (_S.PROTECTED, ()),
        _E.PLAYOUT_FINISHED: (_S.LISTENING, (_A.DROP_UTTERANCE,)),
        _E.REPLY_READY: (_S.PROTECTED, (_A.START_PLAYOUT,)),
        _E.PROTECTED_REPLY_READY: (_S.PROTECTED, (_A.START_PLAYOUT,)),
    },
    _S.PROTECTED_OVERLAP: {
        _E.SPEECH_PAUSED: (_S.PROTECTED, (_A.DROP_UTTERANCE,)),
        _E.DIGIT_PRESSED: (_S.PROTECTED_OVERLAP, ()),
        _E.PLAYOUT_FINISHED: (_S.CALLER_SPEAKING, ()),
        _E.REPLY_READY: (_S.PROTECTED_OVERLAP, (_A.START_PLAYOUT,)),
        _E.PROTECTED_REPLY_READY: (_S.PROTECTED_OVERLAP, (_A.START_PLAYOUT,)),
    },
    _S.ENDED: {},
}
for _state in _S:
    if _state is not _S.ENDED:
        TRANSITIONS[_state][_E.CALL_ENDED] = (_S.ENDED, (_A.DROP_SPECULATION, _A.DROP_REPLY, _A.FLUSH_PLAYOUT))


class Floor:
    """The state of one call's turn-taking."""

    def __init__(self) -> None:
        self._state = FloorState.LISTENING

    @property
    def state(self) -> FloorState:
        """Who has the floor."""
        return self._state

    def allows(self, event: FloorEvent) -> bool:
        """Whether `event` can happen now."""
        return event in TRANSITIONS[self._state]

    def apply(self, event: FloorEvent) -> tuple[FloorAction, ...]:
        """Move to the next state and return what to do, in order. Raises IllegalFloorEventError."""
        transition = TRANSITIONS[self._state].get(event)
        if transition is None:
            raise IllegalFloorEventError(self._state, event)
        self._state, actions = transition
        return actions
