"""Turns are paired and measured as the definitions of `bench.exchange` say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.exchange import Exchange, Turn, Utterance, UtteranceKind, hear, pair
from bench.recording import Recording, Span
from tests.bench.test_recording import RATE_HZ, line, mu_law


def said(start_s: float, end_s: float, kind: UtteranceKind = UtteranceKind.LINE) -> Utterance:
    return Utterance(kind=kind, line=0, text="words", start_s=start_s, end_s=end_s)


def spans(*borders: tuple[float, float]) -> list[Span]:
    return [Span(start_s=start, end_s=end) for start, end in borders]


def only_turn(exchange: Exchange) -> Turn:
    (turn,) = exchange.turns
    return turn


@settings(max_examples=60, deadline=None)
@given(
    greeting_s=st.floats(min_value=0.05, max_value=0.6),
    response_s=st.floats(min_value=0.12, max_value=2.0),
    spoken_s=st.floats(min_value=0.3, max_value=2.5),
    log_error_s=st.floats(min_value=-0.2, max_value=0.2),
    noise_dbfs=st.one_of(st.none(), st.floats(min_value=-75, max_value=-58)),
)
def test_response_and_first_audio_are_measured_to_ten_milliseconds(
    greeting_s: float, response_s: float, spoken_s: float, log_error_s: float, noise_dbfs: float | None
) -> None:
    """A response of known length comes out within 10 ms, whatever the noise and the caller's log say."""
    asked = greeting_s + 1.5 + 0.6
    answered = asked + spoken_s + response_s
    agent = line(10.0, spans((greeting_s, greeting_s + 1.5), (answered, answered + 1.0)), noise_dbfs=noise_dbfs)
    caller = line(10.0, spans((asked, asked + spoken_s)), noise_dbfs=noise_dbfs)
    recording = Recording(rate_hz=RATE_HZ, caller=mu_law(caller), agent=mu_law(agent))
    exchange = hear(recording, [said(asked + log_error_s, asked + spoken_s + log_error_s)])
    assert exchange.first_audio_s is not None
    # The caller's log puts the start of the recording at most as late as it is itself late.
    assert greeting_s - 0.010 <= exchange.first_audio_s <= greeting_s + max(0.0, log_error_s) + 0.010
    assert only_turn(exchange).response_s == pytest.approx(response_s, abs=0.010)


@settings(max_examples=40, deadline=None)
@given(
    begins_s=st.floats(min_value=0.3, max_value=1.5),
    stops_after_s=st.floats(min_value=0.05, max_value=0.9),
    response_s=st.floats(min_value=0.15, max_value=1.0),
)
def test_barge_in_is_measured_to_ten_milliseconds(begins_s: float, stops_after_s: float, response_s: float) -> None:
    """The agent's silence after an interruption of known timing comes out within 10 ms."""
    start = 1.0 + begins_s
    agent = line(10.0, spans((1.0, start + stops_after_s), (start + 1.2 + response_s, start + 3.5)))
    caller = line(10.0, spans((start, start + 1.2)))
    recording = Recording(rate_hz=RATE_HZ, caller=caller, agent=agent)
    turn = only_turn(hear(recording, [said(start, start + 1.2, UtteranceKind.BARGE_IN)]))
    assert turn.barge_in_s == pytest.approx(stops_after_s, abs=0.010)
    assert turn.response_s == pytest.approx(response_s, abs=0.010)


def test_an_interrupted_agent_that_goes_on_over_the_caller_is_counted() -> None:
    """An agent that stops, and takes up its reply while the caller still speaks, was not really stopped."""
    turn = only_turn(
        pair(spans((2.0, 4.0)), spans((1.0, 2.1), (2.4, 3.5), (4.4, 5.0)), [said(2.0, 4.0, UtteranceKind.BARGE_IN)])
    )
    assert turn.barge_in_s == pytest.approx(0.1)
    assert turn.is_resumed_over_caller
    assert turn.response_s == pytest.approx(0.4)


def test_speaking_in_silence_is_no_barge_in() -> None:
    """An interruption that came after the agent had finished has no barge-in time."""
    turn = only_turn(pair(spans((2.0, 3.0)), spans((1.0, 1.9), (3.3, 4.0)), [said(2.0, 3.0, UtteranceKind.BARGE_IN)]))
    assert turn.barge_in_s is None
    assert turn.response_s == pytest.approx(0.3)


def test_pauses_inside_a_line_belong_to_it() -> None:
    """The response counts from the last words of a line, not from a pause inside it."""
    turn = only_turn(pair(spans((2.0, 3.0), (3.6, 4.2)), spans((0.1, 1.0), (4.5, 5.0)), [said(2.0, 4.2)]))
    assert turn.spoken == Span(start_s=2.0, end_s=4.2)
    assert turn.response_s == pytest.approx(0.3)


def test_an_agent_that_cuts_a_line_off_has_no_response_time() -> None:
    """Answering in the pause of a line is counted, and never as a fast response."""
    turn = only_turn(pair(spans((2.0, 3.0), (3.6, 4.2)), spans((3.3, 3.8), (4.5, 5.0)), [said(2.0, 4.2)]))
    assert turn.is_cut_off
    assert turn.response_s is None


def test_no_answer_is_no_response() -> None:
    """A turn that nobody answers before the caller speaks again has no response."""
    exchange = pair(spans((1.0, 2.0), (4.0, 5.0)), spans((5.4, 6.0)), [said(1.0, 2.0), said(4.0, 5.0)])
    assert [turn.response_s for turn in exchange.turns] == [None, pytest.approx(0.4)]


def test_a_filler_is_told_from_the_reply() -> None:
    """A short word and a pause before the reply count as the response and are reported as a likely filler."""
    turn = only_turn(pair(spans((1.0, 2.0)), spans((2.2, 2.6), (3.4, 6.0)), [said(1.0, 2.0)]))
    assert turn.response_s == pytest.approx(0.2)
    assert turn.is_filler_likely
    assert turn.settled_s == pytest.approx(1.4)


def test_a_short_reply_is_no_filler() -> None:
    """A reply of one short sentence has nothing after it."""
    turn = only_turn(pair(spans((1.0, 2.0)), spans((2.2, 2.9)), [said(1.0, 2.0)]))
    assert not turn.is_filler_likely
    assert turn.settled_s == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("agent", "is_kept"),
    [
        (spans((1.0, 4.0)), True),
        (spans((1.0, 2.2), (2.9, 4.0)), True),
        (spans((1.0, 2.2)), False),
        (spans((1.0, 2.2), (7.0, 8.0)), False),
        (spans((0.2, 1.5)), None),
    ],
)
def test_a_cough_must_not_lose_the_reply(agent: list[Span], is_kept: object) -> None:
    """After a noise the agent goes on, or resumes within three seconds; it proves nothing if it was not speaking."""
    assert only_turn(pair(spans((2.0, 2.3)), agent, [said(2.0, 2.3, UtteranceKind.NOISE)])).is_reply_kept is is_kept


def test_digits_leave_no_trace_in_the_audio() -> None:
    """Pressed digits have no measured response, but the reply after them is theirs."""
    turn = only_turn(pair([], spans((0.1, 1.0), (3.0, 4.0)), [said(1.5, 2.5, UtteranceKind.DIGITS)]))
    assert turn.response_s is None
    assert turn.agent == tuple(spans((3.0, 4.0)))


def test_a_recording_that_began_late_is_corrected() -> None:
    """First audio counts from the answer, also when the recording's clock started after it."""
    exchange = pair(spans((2.0, 3.0)), spans((0.0, 1.0), (3.3, 4.0)), [said(2.15, 3.15)])
    assert exchange.first_audio_s == pytest.approx(0.15)


def test_a_call_without_speech_has_no_figures() -> None:
    """A silent recording gives no first audio and no response."""
    silence = np.zeros(RATE_HZ, np.int16)
    exchange = hear(Recording(rate_hz=RATE_HZ, caller=silence, agent=silence), [said(0.2, 0.4)])
    assert exchange.first_audio_s is None
    assert only_turn(exchange).response_s is None
