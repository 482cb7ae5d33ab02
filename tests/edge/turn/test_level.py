"""Levels, noise floor and echo."""

import numpy as np
import pytest

from edge.turn.level import SILENCE_DBFS, TYPICAL_PLAYOUT_DBFS, EchoEstimate, EchoSettings, NoiseFloor, level_dbfs


def test_a_full_scale_sine_is_3_db_below_full_scale() -> None:
    """dBFS here is of mean power."""
    sine = (32767 * np.sin(np.arange(16000) * 0.1)).astype(np.float32)
    assert level_dbfs(sine) == pytest.approx(-3.0, abs=0.1)
    assert level_dbfs(np.zeros(100, dtype=np.float32)) == SILENCE_DBFS


def test_the_floor_follows_the_noise_and_not_the_speech() -> None:
    """Words at -20 dBFS with gaps at -50 leave the floor at -50; a quieter line lowers it at once."""
    floor = NoiseFloor()
    for second in range(4):
        for hop in range(125):
            floor.update(-20.0 if (hop // 25 + second) % 2 else -50.0)
    assert floor.dbfs == pytest.approx(-50.0, abs=1.0)
    for _ in range(30):
        floor.update(-65.0)
    assert floor.dbfs == pytest.approx(-65.0, abs=1.0)


def test_a_line_without_echo_soon_lets_quiet_callers_through() -> None:
    """Two seconds of greeting teach that nothing comes back."""
    echo = EchoEstimate()
    careful = echo.minimum_dbfs(TYPICAL_PLAYOUT_DBFS)
    for _ in range(100):
        echo.minimum_dbfs(TYPICAL_PLAYOUT_DBFS)
        echo.learn(-80.0, is_caller_speaking=False)
    assert careful > -40
    assert echo.minimum_dbfs(TYPICAL_PLAYOUT_DBFS) < -60


def test_a_line_with_echo_keeps_the_bar_above_it() -> None:
    """An echo 22 dB below our voice stays below the bar, and a caller over it teaches nothing."""
    echo = EchoEstimate()
    for _ in range(200):
        minimum = echo.minimum_dbfs(TYPICAL_PLAYOUT_DBFS)
        echo.learn(-42.0, is_caller_speaking=False)
        echo.learn(-15.0, is_caller_speaking=True)
    assert -42.0 < minimum < -30.0


def test_the_bar_stays_for_the_echo_tail_and_goes_with_it() -> None:
    """An echo arrives up to 300 ms after the sound; later nothing is held against the caller."""
    echo = EchoEstimate()
    echo.minimum_dbfs(TYPICAL_PLAYOUT_DBFS)
    during = [echo.minimum_dbfs(SILENCE_DBFS) for _ in range(20)]
    assert during[5] > -50
    assert during[-1] == SILENCE_DBFS


def test_a_confirmed_echo_raises_the_bar_at_once() -> None:
    """What proved to be our echo must not stop us again."""
    echo = EchoEstimate()
    echo.minimum_dbfs(TYPICAL_PLAYOUT_DBFS)
    echo.confirmed(-38.0)
    assert echo.minimum_dbfs(TYPICAL_PLAYOUT_DBFS) == pytest.approx(-30.0)


def test_settings_out_of_order_are_refused() -> None:
    """Coupling rises from lowest over initial to highest."""
    with pytest.raises(ValueError, match="echo coupling"):
        EchoEstimate(EchoSettings(initial_coupling_db=-80.0))
