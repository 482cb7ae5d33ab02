import itertools

import pytest

from edge.call.errors import IllegalTransitionError
from edge.call.lifecycle import TRANSITIONS, CallAction, CallEvent, CallLifecycle, CallState


@pytest.mark.parametrize(("state", "event"), list(itertools.product(CallState, CallEvent)))
def test_every_pair_moves_by_the_table_or_raises_and_changes_nothing(state: CallState, event: CallEvent) -> None:
    lifecycle = CallLifecycle(state)
    if (state, event) in TRANSITIONS:
        following, actions = TRANSITIONS[state, event]
        assert lifecycle.advance(event) == actions
        assert lifecycle.state is following
    else:
        with pytest.raises(IllegalTransitionError):
            lifecycle.advance(event)
        assert lifecycle.state is state


@pytest.mark.parametrize("state", [state for state in CallState if state is not CallState.ENDED])
def test_a_caller_may_hang_up_and_a_part_may_fail_in_every_state(state: CallState) -> None:
    for event in (CallEvent.CALLER_HUNG_UP, CallEvent.FAILED):
        lifecycle = CallLifecycle(state)
        lifecycle.advance(event)
        assert lifecycle.state is CallState.ENDED


def test_ended_is_final() -> None:
    assert not [event for state, event in TRANSITIONS if state is CallState.ENDED]


def test_nothing_is_answered_without_a_slot() -> None:
    into_connecting = [key for key, (state, _) in TRANSITIONS.items() if state is CallState.CONNECTING]
    assert into_connecting == [(CallState.OFFERED, CallEvent.SLOT_TAKEN)]


def test_only_calls_that_failed_or_said_goodbye_are_hung_up_by_us() -> None:
    for (_, event), (_, actions) in TRANSITIONS.items():
        if CallAction.HANG_UP in actions:
            assert event is CallEvent.GOODBYE_HEARD
        if CallAction.HANG_UP_FAILED in actions:
            assert event is CallEvent.FAILED
