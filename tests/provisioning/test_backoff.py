"""Which services get their shortest pause before a restart back."""

from provisioning.backoff import served_again

NOW_US = 1_000_000_000


def shown(unit: str, state: str, restarts: int, served_s: float) -> str:
    """As systemd 257 prints it."""
    since_us = NOW_US - round(served_s * 1_000_000)
    return f"NRestarts={restarts}\nId={unit}\nActiveState={state}\nActiveEnterTimestampMonotonic={since_us}\n"


def test_a_service_that_has_served_for_a_minute_since_its_restart() -> None:
    assert served_again(shown("borough-inference.service", "active", 12, 61.0), NOW_US) == ["borough-inference.service"]


def test_a_service_that_crashes_on_and_on_keeps_its_growing_pause() -> None:
    crashing = [shown("borough-agent.service", "active", 3, 20.0), shown("borough-nats.service", "activating", 3, 90.0)]
    assert served_again("\n".join(crashing), NOW_US) == []


def test_what_failed_for_good_stays_failed_and_what_never_failed_is_left_alone() -> None:
    others = [
        shown("borough-litestream.service", "failed", 40, 900.0),
        shown("borough-calls@1.service", "active", 0, 900.0),
        shown("borough-calls@2.service", "active", 1, 900.0),
    ]
    assert served_again("\n".join(others), NOW_US) == ["borough-calls@2.service"]


def test_a_machine_without_services_of_ours() -> None:
    assert served_again("", NOW_US) == []
