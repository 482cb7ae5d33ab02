"""What a caller noticed of a blow, by the speech of both sides."""

import pytest

from bench.drills.measurement import StruckCall, notice, usual_response_s
from bench.exchange import Utterance, UtteranceKind, pair
from bench.judge import CallVerdict, LineVerdict
from bench.recording import Span

GREETING = (0.0, 3.0)


def call(
    caller: list[tuple[float, float]], agent: list[tuple[float, float]], *blows_s: float, wrong: tuple[int, ...] = ()
) -> StruckCall:
    utterances = tuple(
        Utterance(kind=UtteranceKind.LINE, line=index, text="", start_s=start, end_s=end)
        for index, (start, end) in enumerate(caller)
    )
    spans = [[Span(start_s=start, end_s=end) for start, end in side] for side in (caller, agent)]
    lines = tuple(
        LineVerdict(
            line=index, heard=("",), failures=("not said",) if index in wrong else (), wrong_facts=(), unconfirmed=()
        )
        for index in range(len(caller))
    )
    return StruckCall(
        call_id="a",
        blows_s=blows_s,
        utterances=utterances,
        exchange=pair(spans[0], spans[1], utterances),
        verdict=CallVerdict(lines=lines, failures=()),
    )


def silence_s(one: StruckCall) -> float | None:
    return notice(one)[0].silence_s


def test_an_agent_that_breaks_off_is_silent_until_it_goes_on() -> None:
    assert silence_s(call([(4.0, 5.0)], [GREETING, (5.5, 6.5), (7.75, 9.0)], 6.5)) == 1.25


def test_what_was_queued_before_the_blow_does_not_hide_the_silence_after_it() -> None:
    agent = [GREETING, (5.5, 6.5), (6.75, 7.0), (9.0, 10.0)]
    assert silence_s(call([(4.0, 5.0)], agent, 6.0)) == 2.0


def test_while_the_agent_thinks_its_answer_is_waited_for() -> None:
    assert silence_s(call([(4.0, 5.0)], [GREETING, (6.5, 8.0)], 5.25)) == 1.5


def test_words_into_the_callers_were_not_waited_for() -> None:
    assert silence_s(call([(4.0, 6.0)], [GREETING, (5.5, 8.0)], 4.5)) == 0.0


def test_the_callers_own_pause_before_a_blow_is_no_wait_for_the_agent() -> None:
    assert silence_s(call([(9.0, 10.0)], [GREETING, (6.5, 8.0)], 6.25)) == 0.25


def test_a_gap_between_two_clauses_is_no_pause_of_the_callers() -> None:
    assert silence_s(call([(9.0, 10.0)], [GREETING, (4.5, 8.0)], 4.0)) == 1.5


def test_an_agent_that_is_never_heard_again_has_no_silence_to_measure() -> None:
    assert silence_s(call([(4.0, 5.0)], [GREETING], 4.5)) is None


def test_extra_response_is_measured_against_all_other_turns() -> None:
    one = call([(4.0, 5.0), (8.0, 9.0), (12.0, 13.0)], [GREETING, (5.5, 7.0), (10.5, 11.0), (13.5, 15.0)], 8.5)
    assert usual_response_s([one], []) == pytest.approx(0.5)
    assert notice(one)[0].response_s == pytest.approx(1.5)


def test_the_context_is_judged_from_the_line_that_was_open_on() -> None:
    lines, agent = [(4.0, 5.0), (8.0, 9.0)], [GREETING, (5.5, 7.0), (9.5, 11.0)]
    assert notice(call(lines, agent, 8.5, wrong=(0,)))[0].is_context_kept
    assert not notice(call(lines, agent, 8.5, wrong=(1,)))[0].is_context_kept
    assert notice(call(lines, agent, 2.0, wrong=(0,)))[0].failures
