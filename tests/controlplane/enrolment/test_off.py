"""A hub without an authority, as `borough up` runs it, enrols nobody and says so."""

import pytest

from tests.controlplane.hub_process import Hub


@pytest.mark.parametrize(
    "command", [("token", "create", "in-south"), ("token", "list"), ("fleet", "cordon", "south-1")]
)
async def test_without_an_authority_there_are_no_tokens_and_no_states(hub: Hub, command: tuple[str, ...]) -> None:
    result = await hub.run(*command, role="admin", person="root")
    assert (result.exit_code, "hub.enrolment_off" in result.stderr) == (1, True)
    assert "enrolment_listening" not in hub.events("hub-1")
