from edge.call.watchdog import Alarm, Watchdog, WatchdogSettings

SETTINGS = WatchdogSettings()


def awake(now: float = 100.0) -> Watchdog:
    dog = Watchdog(SETTINGS, started=now)
    dog.last_frame = now + 1e6
    return dog


def test_a_silent_caller_is_reported_once_for_each_silence() -> None:
    dog = awake()
    dog.quiet(100.0)
    assert dog.due(100.0 + SETTINGS.no_input_s) is None
    assert dog.due(100.1 + SETTINGS.no_input_s) is Alarm.CALLER_SILENT
    assert dog.due(200.0) is None
    dog.quiet(200.0)
    assert dog.due(200.1 + SETTINGS.no_input_s) is Alarm.CALLER_SILENT


def test_nobody_is_silent_while_somebody_speaks() -> None:
    dog = awake()
    dog.quiet(100.0)
    dog.busy()
    assert dog.due(500.0) is None


def test_a_late_reply_gets_one_filler_and_then_counts_as_stuck() -> None:
    dog = awake()
    dog.thinking(100.0)
    dog.thinking(101.0)
    assert dog.due(100.1 + SETTINGS.filler_s) is Alarm.FILLER_DUE
    assert dog.due(102.0 + SETTINGS.filler_s) is None
    assert dog.due(100.1 + SETTINGS.stuck_turn_s) is Alarm.TURN_STUCK
    assert dog.due(150.0) is None


def test_frames_that_stop_mean_a_dead_leg() -> None:
    dog = Watchdog(SETTINGS, started=100.0)
    dog.last_frame = 110.0
    assert dog.due(110.0 + SETTINGS.dead_audio_s) is None
    assert dog.due(110.1 + SETTINGS.dead_audio_s) is Alarm.AUDIO_DEAD


def test_no_call_lasts_forever() -> None:
    dog = awake()
    assert dog.due(100.1 + SETTINGS.longest_call_s) is Alarm.CALL_TOO_LONG
