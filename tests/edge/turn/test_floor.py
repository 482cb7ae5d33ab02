"""The turn-taking table: every pair, the promised stories, and that no call can get stuck."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.turn.floor import TRANSITIONS, Floor, FloorAction, FloorEvent, FloorState, IllegalFloorEventError

S, E, A = FloorState, FloorEvent, FloorAction

# The shortest way into every state.
PATHS: dict[FloorState, tuple[FloorEvent, ...]] = {
    S.LISTENING: (),
    S.CALLER_SPEAKING: (E.SPEECH_STARTED,),
    S.CALLER_PAUSED: (E.SPEECH_STARTED, E.SPEECH_PAUSED),
    S.THINKING: (E.SPEECH_STARTED, E.SPEECH_PAUSED, E.ENDPOINT_REACHED),
    S.AGENT_SPEAKING: (E.REPLY_READY,),
    S.ARBITRATING: (E.REPLY_READY, E.SPEECH_STARTED),
    S.ARBITRATING_PAUSED: (E.REPLY_READY, E.SPEECH_STARTED, E.SPEECH_PAUSED),
    S.PROTECTED: (E.PROTECTED_REPLY_READY,),
    S.PROTECTED_OVERLAP: (E.PROTECTED_REPLY_READY, E.SPEECH_STARTED),
    S.ENDED: (E.CALL_ENDED,),
}

# What silence, verdicts and deadlines bring about, whatever the caller does.
WAY_OUT: dict[FloorState, FloorEvent] = {
    S.CALLER_SPEAKING: E.SPEECH_PAUSED,
    S.CALLER_PAUSED: E.ENDPOINT_REACHED,
    S.THINKING: E.REPLY_READY,
    S.AGENT_SPEAKING: E.PLAYOUT_FINISHED,
    S.ARBITRATING: E.BARGE_IN_REJECTED,
    S.ARBITRATING_PAUSED: E.BARGE_IN_REJECTED,
    S.PROTECTED: E.PLAYOUT_FINISHED,
    S.PROTECTED_OVERLAP: E.SPEECH_PAUSED,
}


def floor_in(state: FloorState) -> Floor:
    floor = Floor()
    for event in PATHS[state]:
        floor.apply(event)
    assert floor.state is state
    return floor


def actions_of(*events: FloorEvent) -> list[FloorAction]:
    floor = Floor()
    return [action for event in events for action in floor.apply(event)]


@pytest.mark.parametrize("state", list(FloorState))
@pytest.mark.parametrize("event", list(FloorEvent))
def test_every_pair_follows_the_table_or_raises_and_changes_nothing(state: FloorState, event: FloorEvent) -> None:
    """All pairs of state and event."""
    floor = floor_in(state)
    if event in TRANSITIONS[state]:
        assert floor.allows(event)
        following, actions = TRANSITIONS[state][event]
        assert floor.apply(event) == actions
        assert floor.state is following
    else:
        assert not floor.allows(event)
        with pytest.raises(IllegalFloorEventError):
            floor.apply(event)
        assert floor.state is state


def test_the_caller_may_speak_pause_and_hang_up_in_any_live_state() -> None:
    """What a caller does on their own is legal wherever it can be observed."""
    for state in FloorState:
        if state is S.ENDED:
            continue
        allowed = TRANSITIONS[state].keys()
        assert E.CALL_ENDED in allowed
        assert E.DIGIT_PRESSED in allowed
        assert allowed & {E.SPEECH_STARTED, E.SPEECH_PAUSED}


@given(st.lists(st.sampled_from(list(FloorEvent)), max_size=60))
def test_no_sequence_of_events_gets_a_call_stuck(events: list[FloorEvent]) -> None:
    """From anywhere, silence and deadlines lead back to listening within six steps."""
    floor = Floor()
    for event in events:
        if event is not E.CALL_ENDED and floor.allows(event):
            floor.apply(event)
    for _ in range(6):
        if floor.state is S.LISTENING:
            return
        floor.apply(WAY_OUT[floor.state])
    assert floor.state is S.LISTENING


@given(st.lists(st.sampled_from(list(FloorEvent)), max_size=60))
def test_a_held_playout_is_always_resumed_or_flushed(events: list[FloorEvent]) -> None:
    """Playout is held exactly while we arbitrate: no path leaves it paused or resumes what was dropped."""
    floor = Floor()
    is_held = False
    for event in events:
        if not floor.allows(event):
            continue
        actions = floor.apply(event)
        if A.PAUSE_PLAYOUT in actions:
            assert not is_held
            is_held = True
        if A.RESUME_PLAYOUT in actions or A.FLUSH_PLAYOUT in actions:
            is_held = False
        assert is_held == (floor.state in (S.ARBITRATING, S.ARBITRATING_PAUSED))


def test_a_plain_turn_speculates_then_commits() -> None:
    """Pause starts the work, the endpoint makes it real, the reply plays."""
    assert actions_of(E.SPEECH_STARTED, E.SPEECH_PAUSED, E.ENDPOINT_REACHED, E.REPLY_READY, E.PLAYOUT_FINISHED) == [
        A.START_SPECULATION,
        A.COMMIT_TURN,
        A.START_PLAYOUT,
        A.DROP_UTTERANCE,
    ]


def test_going_on_after_a_premature_commit_merges() -> None:
    """Before the reply's first audio it is dropped; after it, flushed; both merge the utterance."""
    thinking = (E.SPEECH_STARTED, E.SPEECH_PAUSED, E.ENDPOINT_REACHED)
    assert actions_of(*thinking, E.SPEECH_RESUMED)[-2:] == [A.DROP_REPLY, A.MERGE_UTTERANCE]
    started = (*thinking, E.REPLY_READY, E.SPEECH_RESUMED, E.CONTINUATION_CONFIRMED)
    assert actions_of(*started)[-3:] == [A.PAUSE_PLAYOUT, A.FLUSH_PLAYOUT, A.MERGE_UTTERANCE]


def test_a_cough_never_costs_the_reply() -> None:
    """A rejected barge-in resumes the playout and drops only the sound."""
    actions = actions_of(E.REPLY_READY, E.SPEECH_STARTED, E.SPEECH_PAUSED, E.BARGE_IN_REJECTED)
    assert A.FLUSH_PLAYOUT not in actions
    assert actions[-1] is A.RESUME_PLAYOUT


def test_a_protected_prompt_is_not_held_and_an_answer_over_it_does_not_count() -> None:
    """A consent prompt plays whole; what was said over it is dropped."""
    actions = actions_of(E.PROTECTED_REPLY_READY, E.SPEECH_STARTED, E.SPEECH_PAUSED, E.PLAYOUT_FINISHED)
    assert actions == [A.START_PLAYOUT, A.DROP_UTTERANCE, A.DROP_UTTERANCE]
