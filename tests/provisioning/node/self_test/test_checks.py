"""How checks are run."""

import asyncio

from provisioning.node.self_test.checks import Check, Finding, Outcome, run


async def _slow() -> str:
    await asyncio.sleep(0.2)
    return "there"


async def test_patience_multiplies_the_time_of_a_check() -> None:
    """A check that takes too long has failed, and says how long it was waited for."""
    check = Check(name="slow", within_s=0.05, ask=_slow, advice="wait")
    heard: list[Finding] = []
    (late,) = await run([check], heard.append)
    (patient,) = await run([check], heard.append, patience=100)
    assert (late.outcome, late.advice) == (Outcome.FAILED, "wait")
    assert (patient.outcome, patient.detail) == (Outcome.PASSED, "there")
    assert heard == [late, patient]
