"""One hub for the tests of a module: to start it takes seconds."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.controlplane.enrolment.machines import EnrollingHub, enrolling_hub


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def enrolling(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EnrollingHub]:
    async with enrolling_hub(tmp_path_factory.mktemp("hub"), host="[::]") as hub:
        yield hub
