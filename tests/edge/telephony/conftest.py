"""A node and a carrier, shared by the tests of a module: each starts in half a second."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from edge.telephony.ari import AriAddress, AriClient
from edge.telephony.inbound import InboundCalls
from provisioning.asterisk.settings import AsteriskSettings
from tests.asterisk_pair import AsteriskPair, running_pair
from tests.edge.telephony.carrier_caller import Carrier

APP = "calls-0"


def address_of(settings: AsteriskSettings) -> AriAddress:
    return AriAddress(url=settings.ari_url, user=settings.ari.user, password=settings.ari.password)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AsteriskPair]:
    async with running_pair(tmp_path_factory.mktemp("asterisk"), stasis_apps=(APP, "calls-1")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def node_client(pair: AsteriskPair) -> AsyncIterator[AriClient]:
    async with AriClient(address_of(pair.node.settings)) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def calls(node_client: AriClient) -> AsyncIterator[InboundCalls]:
    async with InboundCalls(node_client, app=APP) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def carrier(pair: AsteriskPair) -> AsyncIterator[Carrier]:
    async with (
        AriClient(address_of(pair.carrier.settings)) as client,
        asyncio.timeout(120),
        Carrier.open(client, pair) as opened,
    ):
        yield opened
