"""What is done already is not done again."""

import pytest

from provisioning.machines.region import RegionRehearsal


@pytest.mark.parametrize("playbook", ["hub", "region"])
def test_a_second_run_changes_nothing(region: RegionRehearsal, playbook: str) -> None:
    """On no machine."""
    outcome = region.player.play(playbook).expect_success()
    assert outcome.changed
    assert set(outcome.changed.values()) == {0}, outcome.output


@pytest.mark.parametrize("playbook", ["hub", "region"])
def test_a_dry_run_is_possible_and_finds_nothing(region: RegionRehearsal, playbook: str) -> None:
    """`--check` runs through, and says that nothing would change."""
    outcome = region.player.play(playbook, "--check").expect_success()
    assert set(outcome.changed.values()) == {0}, outcome.output
