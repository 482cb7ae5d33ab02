"""Another node's inference helps out when this one's dies or hangs: real processes, mutual TLS, real models."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import numpy as np
import pytest

from edge.call.ports import ChatMessage, Priority, Purpose
from edge.inference.client import InferenceClient
from edge.inference.errors import InferenceUnavailableError
from edge.inference.hedging import Work
from provisioning.identity.names import ServiceName, ServiceRole
from tests.edge.inference.conftest import ALL_MODELS, START_TIMEOUT_S, Service, works
from tests.edge.inference.region import ADDRESSES, HOME, REGION, SIBLING, SmallRegion, free_port

SENTENCE = "Please cancel my order and send me the receipt."
CLAUSES = ["My first word is garden,", "the second word is window,", "after that comes elephant,"]
CLAUSES += ["then I say mountain,", "followed by yellow,", "and the last one is kitchen."]
WORDS = ("garden", "window", "elephant", "mountain", "yellow", "kitchen")
HOME_MODELS = """
[[asr]]
model = "whisper-tiny.en"
[[tts]]
model = "en_US-joe-medium"
[embedding]
model = "minilm-l6-v2"
"""
TELL_ME = [ChatMessage(speaker="caller", text="Tell me about the sea.")]


def _purpose(*, budget_s: float = 60.0, priority: Priority = Priority.LIVE) -> Purpose:
    return Purpose(tenant="acme", call_id="call", priority=priority, budget_s=budget_s)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> SmallRegion:
    made = SmallRegion(tmp_path_factory.mktemp("region"), free_port(ADDRESSES[SIBLING]))
    made.found()
    return made


@pytest.fixture(scope="module")
def sibling(model_store: Path, region: SmallRegion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Another node's service; the tests leave it alone."""
    running = Service(tmp_path_factory.mktemp("sibling"), ALL_MODELS + region.service_section(SIBLING))
    running.start()
    yield running
    assert running.stop() == 0, running.log.read_text()


@pytest.fixture(scope="module")
def home(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """This node's service, which the tests kill; `_at_home` has it running again."""
    service = Service(tmp_path_factory.mktemp("home"), HOME_MODELS)
    service.start()
    yield service
    service.stop()


@pytest.fixture
def writer(model_store: Path, tmp_path: Path) -> Iterator[Service]:
    """A service of this node that only generates text, and is soon there."""
    service = Service(tmp_path, '[llm]\nmodel = "smollm2-135m-instruct"\n')
    service.start()
    yield service
    service.stop()


@asynccontextmanager
async def _at_home(region: SmallRegion, home: Service, sibling: Service) -> AsyncIterator[InferenceClient]:
    """A client on the home node, with both services ready and connected."""
    if home.process.poll() is not None:
        home.start()
    async with InferenceClient(sibling.socket) as other:
        await other.wait_until_ready(START_TIMEOUT_S)
    async with InferenceClient(home.socket, siblings=region.client_section()) as client:
        await client.wait_until_ready(START_TIMEOUT_S)
        await _until(lambda: _up(client) == {"local", SIBLING})
        yield client


def _up(client: InferenceClient) -> set[str]:
    return {endpoint.name for endpoint in client.route_counts().endpoints if endpoint.is_up}


def _served(client: InferenceClient, endpoint: str) -> int:
    return sum(count for (name, _), count in client.route_counts().served.items() if name == endpoint)


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while not is_so():
            # gRPC's view of a connection has no event for others.
            await asyncio.sleep(0.02)


@contextmanager
def _stopped(service: Service) -> Iterator[None]:
    os.kill(service.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(service.process.pid, signal.SIGCONT)


async def _say(client: InferenceClient, text: str) -> bytes:
    return b"".join([pcm async for pcm in client.synthesize(text, _purpose(), voice="")])


async def _embeds_at_home(client: InferenceClient) -> bool:
    """Home is asked first again; on a busy machine the sibling that is then asked beside it may win now and then."""
    for _ in range(5):
        await client.embed([SENTENCE], _purpose())
        if client.route_counts().served["local", Work.EMBED]:
            return True
    return False


async def test_a_healthy_node_asks_no_sibling(region: SmallRegion, home: Service, sibling: Service) -> None:
    async with _at_home(region, home, sibling) as client:
        pcm = await _say(client, SENTENCE)
        found = await client.transcribe(pcm, _purpose(), language="en", hints=())
        # The voice says it a little differently each time.
        assert {"cancel", "order", "receipt"} <= {word.strip(".,").lower() for word in found.text.split()}
        await client.embed([SENTENCE], _purpose())
        assert _served(client, "local") > _served(client, SIBLING)


async def test_a_service_that_hangs(region: SmallRegion, home: Service, sibling: Service) -> None:
    """SIGSTOP: the first request is answered by the sibling after a moment, the next ones at once; SIGCONT: all is as
    it was."""
    async with _at_home(region, home, sibling) as client:
        pcm = await _say(client, SENTENCE)
        with _stopped(home):
            await client.transcribe(pcm, _purpose(), language="en", hints=())
            counts = client.route_counts()
            assert counts.served[SIBLING, Work.RECOGNISE] == 1
            await _until(lambda: _up(client) == {SIBLING})
            sent = sum(counts.hedges.values()) + sum(counts.failovers.values())
            for _ in range(10):
                await client.embed([SENTENCE], _purpose())
            counts = client.route_counts()
            assert sum(counts.hedges.values()) + sum(counts.failovers.values()) <= sent + 1
            assert counts.served[SIBLING, Work.EMBED] == 10
        await _until(lambda: _up(client) == {"local", SIBLING})
        assert await _embeds_at_home(client)


async def test_killed_in_the_middle_of_a_recognition(region: SmallRegion, home: Service, sibling: Service) -> None:
    """The sibling recognises the same utterance, and serves all while the service is gone; after its return it is
    asked first again."""
    async with _at_home(region, home, sibling) as client:
        noise = np.random.default_rng(1).normal(0, 3_000, 450_000).astype("<i2").tobytes()
        async with asyncio.TaskGroup() as group:
            work = group.create_task(client.transcribe(noise, _purpose(), language="en", hints=()))
            await works(client)
            home.kill()
            await work
        assert client.route_counts().served[SIBLING, Work.RECOGNISE] == 1
        for _ in range(5):
            await client.embed([SENTENCE], _purpose())
        assert client.route_counts().served[SIBLING, Work.EMBED] == 5
        home.start()
        await _until(lambda: "local" in _up(client))
        assert await _embeds_at_home(client)


async def test_killed_in_the_middle_of_speech(region: SmallRegion, home: Service, sibling: Service) -> None:
    """The sibling goes on at the clause that is missing: each is there, and none twice."""
    async with _at_home(region, home, sibling) as client:
        chunks: list[bytes] = []
        async for pcm in client.synthesize(" ".join(CLAUSES), _purpose(), voice=""):
            if not chunks:
                home.kill()
            chunks.append(pcm)
        assert len(chunks) == len(CLAUSES)
        assert client.route_counts().served[SIBLING, Work.SYNTHESISE] >= 1
        text = (await client.transcribe(b"".join(chunks), _purpose(), language="en", hints=())).text.lower()
        counts = [text.count(word) for word in WORDS]
        # The voice says it a little differently each time, and the small recogniser mishears a word now and then.
        assert max(counts) == 1, text
        assert sum(counts) >= len(WORDS) - 2, text


async def test_killed_before_the_first_token(region: SmallRegion, writer: Service, sibling: Service) -> None:
    """The sibling generates the text."""
    async with _at_home(region, writer, sibling) as client, asyncio.TaskGroup() as group:

        async def generate() -> str:
            return "".join([piece async for piece in client.generate("", TELL_ME, _purpose(), max_tokens=8)])

        os.kill(writer.process.pid, signal.SIGSTOP)
        work = group.create_task(generate())
        await asyncio.sleep(0.05)
        writer.kill()
        assert await work
        assert client.route_counts().served[SIBLING, Work.GENERATE] >= 1


async def test_killed_after_the_first_token(region: SmallRegion, writer: Service, sibling: Service) -> None:
    """Nobody else knows how the text would have gone on: an error at once, and the passage is spoken instead."""
    async with _at_home(region, writer, sibling) as client:
        pieces = 0
        for _ in range(10):
            stream = client.generate("", TELL_ME, _purpose(), max_tokens=1_500)
            await anext(stream)
            if client.route_counts().served["local", Work.GENERATE]:
                break
            # This machine is so busy that the sibling was faster.
            await stream.aclose()
        writer.kill()
        with pytest.raises(InferenceUnavailableError):  # noqa: PT012 - the loop is what raises
            async for _ in stream:
                pieces += 1
        assert pieces < 1_500


async def test_what_nobody_waits_for_stays_at_home(region: SmallRegion, home: Service, sibling: Service) -> None:
    """Prepared audio and comparisons are no work for a sibling."""
    async with _at_home(region, home, sibling) as client:
        home.kill()
        with pytest.raises(InferenceUnavailableError):
            await client.embed([SENTENCE], _purpose(priority=Priority.SHADOW))


@pytest.mark.parametrize(
    ("of_region", "node", "role"),
    [
        ("eu-west", HOME, ServiceRole.CALLS),
        (REGION, HOME, ServiceRole.AGENT),
        (REGION, "in-south-7", ServiceRole.CALLS),
        (REGION, SIBLING, ServiceRole.CALLS),
    ],
    ids=["other region", "other role", "not in the roster", "the node itself"],
)
async def test_only_call_workers_of_siblings_are_served(
    region: SmallRegion, sibling: Service, tmp_path: Path, of_region: str, node: str, role: ServiceRole
) -> None:
    """All of these have a certificate of the very authority that the sibling trusts."""
    if (of_region, node) != (REGION, SIBLING):
        region.issue(of_region, node, role)
    async with InferenceClient(sibling.socket) as other:
        await other.wait_until_ready(START_TIMEOUT_S)
    section = region.client_section(of_region, node, role)
    async with InferenceClient(tmp_path / "none.sock", siblings=section) as client:
        await _until(lambda: _up(client) == {SIBLING})
        with pytest.raises(InferenceUnavailableError):
            await client.transcribe(b"\0" * 32_000, _purpose(), language="en", hints=())
        assert not _served(client, SIBLING)
    assert "sibling_refused" in sibling.log.read_text()


async def _refused(client: InferenceClient) -> bool:
    try:
        await client.embed([SENTENCE], _purpose())
    except InferenceUnavailableError:
        return True
    return False


async def test_a_node_is_shut_out_while_its_connection_stands(
    region: SmallRegion, sibling: Service, tmp_path: Path
) -> None:
    """What counts is the roster of the moment; it is the same file for who asks and who answers here."""
    async with InferenceClient(sibling.socket) as other:
        await other.wait_until_ready(START_TIMEOUT_S)
    async with InferenceClient(tmp_path / "none.sock", siblings=region.client_section()) as client:
        await _until(lambda: _up(client) == {SIBLING})
        request = (b"\0" * 32_000, _purpose())
        await client.transcribe(*request, language="en", hints=())
        region.issue(REGION, HOME, ServiceRole.CALLS)
        region.write_roster()
        with pytest.raises(InferenceUnavailableError):
            await client.transcribe(*request, language="en", hints=())
    # The newer certificate is only staged: what `certificate_file` names is the one that the roster no longer does.
    region.store.switch(ServiceName(site=REGION, node=HOME, role=ServiceRole.CALLS))
    async with InferenceClient(tmp_path / "none.sock", siblings=region.client_section()) as client:
        await _until(lambda: _up(client) == {SIBLING})
        await client.transcribe(*request, language="en", hints=())


async def test_a_service_with_another_nodes_certificate_is_not_spoken_to(
    region: SmallRegion, sibling: Service, tmp_path: Path
) -> None:
    """An address of the roster that leads to another node, of this region or another, gets nothing."""
    section = region.client_section()
    region.write_roster(addresses={HOME: "127.0.0.1", "in-south-8": ADDRESSES[SIBLING]})
    try:
        async with InferenceClient(tmp_path / "none.sock", siblings=section) as client:
            async with InferenceClient(sibling.socket) as other:
                await other.wait_until_ready(START_TIMEOUT_S)
            for _ in range(3):
                with pytest.raises(InferenceUnavailableError):
                    await client.transcribe(b"\0" * 32_000, _purpose(), language="en", hints=())
            assert not _up(client)
    finally:
        region.write_roster()


async def test_siblings_come_and_go_with_the_roster(region: SmallRegion, sibling: Service, tmp_path: Path) -> None:
    async with InferenceClient(tmp_path / "none.sock", siblings=region.client_section()) as client:
        await _until(lambda: _up(client) == {SIBLING})
        region.write_roster(without=SIBLING)
        with pytest.raises(InferenceUnavailableError):
            await client.transcribe(b"\0" * 32_000, _purpose(), language="en", hints=())
        assert [endpoint.name for endpoint in client.route_counts().endpoints] == ["local"]
        region.write_roster()
        with pytest.raises(InferenceUnavailableError):
            # Its connection is made now; the one of this request could only have been waited for.
            await client.transcribe(b"\0" * 32_000, _purpose(), language="en", hints=())
        await _until(lambda: _up(client) == {SIBLING})
        await client.transcribe(b"\0" * 32_000, _purpose(), language="en", hints=())


async def test_vectors_of_another_model_are_no_answer(region: SmallRegion, sibling: Service, tmp_path: Path) -> None:
    """A client that does not know its node's model takes nobody's vectors."""
    async with InferenceClient(tmp_path / "none.sock", siblings=region.client_section()) as client:
        await _until(lambda: _up(client) == {SIBLING})
        assert await _refused(client)


async def test_without_its_certificate_a_service_serves_its_own_node(
    model_store: Path, region: SmallRegion, tmp_path: Path
) -> None:
    """As after an upgrade of a node that enrolled before the role was there; a client without one asks only at home."""
    section = region.service_section(SIBLING).replace("/inference/", "/none/")
    service = Service(tmp_path, '[embedding]\nmodel = "minilm-l6-v2"\n' + section)
    service.start()
    lacking = region.client_section().model_copy(update={"certificate": tmp_path / "none.pem"})
    try:
        async with InferenceClient(service.socket, siblings=lacking) as client:
            await client.wait_until_ready(START_TIMEOUT_S)
            await client.embed([SENTENCE], _purpose())
            assert [endpoint.name for endpoint in client.route_counts().endpoints] == ["local"]
        assert "siblings_not_served" in service.log.read_text()
    finally:
        service.stop()
