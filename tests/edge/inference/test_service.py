"""The running service, over its socket, with real models."""

import asyncio
import time
from contextlib import aclosing
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest

from edge.call.ports import ChatMessage, Priority, Purpose
from edge.inference.client import InferenceClient
from edge.inference.errors import InferenceLateError, InferenceUnavailableError
from tests.edge.inference.conftest import START_TIMEOUT_S, Service, works

SENTENCE = "Please cancel my order and send me the receipt."
ALONE = '[[asr]]\nmodel = "whisper-tiny.en"\nworkers = 1\n[[tts]]\nmodel = "en_US-joe-medium"\n'


def _purpose(*, budget_s: float = 20.0, priority: Priority = Priority.LIVE) -> Purpose:
    return Purpose(tenant="acme", call_id="call", priority=priority, budget_s=budget_s)


async def _say(client: InferenceClient, text: str) -> bytes:
    return b"".join([pcm async for pcm in client.synthesize(text, _purpose(), voice="")])


async def test_what_the_voice_says_is_recognised(client: InferenceClient) -> None:
    """Synthesis and recognition agree on a sentence, with the times of the work in the transcript."""
    pcm = await _say(client, SENTENCE)
    found = await client.transcribe(pcm, _purpose(), language="en", hints=())
    # The voice says it a little differently each time.
    assert SequenceMatcher(None, found.text.lower(), SENTENCE.lower()).ratio() > 0.9
    assert found.no_speech_probability < 0.5
    assert found.computed_s > 0.0


@pytest.mark.parametrize("seconds", [0.05, 0.5, 2.0, 6.0])
async def test_silence_and_noise_have_no_text(client: InferenceClient, seconds: float) -> None:
    """Nothing, line noise, a hum and white noise are nobody speaking."""
    count = int(16_000 * seconds)
    random = np.random.default_rng(seed=3)
    hum = 2_000 * np.sin(2 * np.pi * 50 * np.arange(count) / 16_000)
    for samples in (np.zeros(count), random.normal(0, 30, count), hum, random.normal(0, 1_500, count)):
        pcm = samples.astype("<i2").tobytes()
        found = await client.transcribe(pcm, _purpose(), language="en", hints=("Borough", "refund"))
        assert found.text == ""


async def test_first_clause_comes_first_and_starts_at_once(client: InferenceClient) -> None:
    """Each clause is a chunk of its own, audible within 20 ms of its start, with little silence at the end."""
    chunks = [pcm async for pcm in client.synthesize("Let me look. It is on its way to you.", _purpose(), voice="")]
    assert len(chunks) == 2
    for pcm in chunks:
        loudness = np.abs(np.frombuffer(pcm, dtype="<i2").astype(np.int32))
        assert np.flatnonzero(loudness > 0.03 * loudness.max())[0] <= 320
        assert loudness.max() < 32_768
    last = np.abs(np.frombuffer(chunks[-1], dtype="<i2").astype(np.int32))
    assert len(last) - np.flatnonzero(last > 0.03 * last.max())[-1] < 1_600


async def test_text_without_words_is_an_error_and_not_silence(client: InferenceClient) -> None:
    """A voice that has nothing to say raises."""
    for text in ("...", " ", ""):
        with pytest.raises(InferenceUnavailableError):
            await _say(client, text)


async def test_generation_streams(client: InferenceClient) -> None:
    """Text comes in pieces and stays within its limit."""
    messages = [ChatMessage(speaker="caller", text="Say hello to me.")]
    pieces = [piece async for piece in client.generate("You are polite.", messages, _purpose(), max_tokens=16)]
    assert 1 < len(pieces) <= 16
    assert "".join(pieces).strip()


async def test_generations_run_side_by_side(client: InferenceClient) -> None:
    """Three at once on two slots all end."""

    async def one(topic: str) -> str:
        messages = [ChatMessage(speaker="caller", text=f"Tell me about {topic}.")]
        return "".join([piece async for piece in client.generate("", messages, _purpose(), max_tokens=12)])

    texts = await asyncio.gather(one("cats"), one("trains"), one("tea"))
    assert all(texts)


async def test_an_abandoned_generation_stops(client: InferenceClient) -> None:
    """Closing the stream frees the slot long before the text would have ended."""
    messages = [ChatMessage(speaker="caller", text="Write a very long story about the sea.")]
    async with aclosing(client.generate("", messages, _purpose(), max_tokens=1_500)) as pieces:
        await anext(pieces)
    async with asyncio.timeout(5):
        while sum(load.running for load in await client.health()):
            await asyncio.sleep(0.02)


async def test_vectors_are_unit_length_and_near_in_meaning(client: InferenceClient) -> None:
    """A paraphrase is nearer than another topic; a batch gives the same vectors as single texts."""
    texts = ["Where is my parcel?", "How can I track my package", "I would like a refund of forty dollars please"]
    vectors = await client.embed(texts, _purpose())
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-4)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    alone = await client.embed(texts[:1], _purpose())
    assert alone[0] @ vectors[0] > 0.995


@pytest.mark.parametrize("pcm", [b"", b"\0", b"\0" * 2_000_000])
async def test_what_is_no_utterance_is_refused(client: InferenceClient, pcm: bytes) -> None:
    """Empty, odd or endless audio is an error of the caller."""
    with pytest.raises(InferenceUnavailableError, match="INVALID_ARGUMENT"):
        await client.transcribe(pcm, _purpose(), language="en", hints=())


async def test_unknown_voice_and_language_are_refused(client: InferenceClient) -> None:
    """The error names what is unknown."""
    with pytest.raises(InferenceUnavailableError, match="nobody"):
        [pcm async for pcm in client.synthesize("Hello there.", _purpose(), voice="nobody")]
    with pytest.raises(InferenceUnavailableError, match="'de'"):
        await client.transcribe(b"\0" * 32_000, _purpose(), language="de", hints=())


async def test_a_budget_that_is_too_short_is_late(client: InferenceClient) -> None:
    """The client raises InferenceLateError when its budget is over."""
    pcm = np.random.default_rng(1).normal(0, 3_000, 160_000).astype("<i2").tobytes()
    with pytest.raises(InferenceLateError):
        await client.transcribe(pcm, _purpose(budget_s=0.005), language="en", hints=())
    with pytest.raises(InferenceLateError):
        [piece async for piece in client.synthesize(SENTENCE * 5, _purpose(budget_s=0.002), voice="")]


async def test_health_names_every_model(client: InferenceClient) -> None:
    """One entry a model."""
    assert {load.kind for load in await client.health()} == {"asr", "tts", "llm", "embedding"}


async def test_client_survives_a_killed_service(model_store: Path, tmp_path: Path) -> None:
    """kill -9 in mid-request: an error at once; while it is down: an error at once; restarted: served again."""
    service = Service(tmp_path, ALONE)
    service.start()
    try:
        async with InferenceClient(service.socket) as client:
            await client.wait_until_ready(START_TIMEOUT_S)
            noise = np.random.default_rng(1).normal(0, 3_000, 450_000).astype("<i2").tobytes()
            async with asyncio.TaskGroup() as group:
                work = group.create_task(_outcome(client, noise))
                await works(client)
                service.kill()
            assert isinstance(work.result(), InferenceUnavailableError)
            started_s = time.monotonic()
            with pytest.raises(InferenceUnavailableError):
                await client.transcribe(noise, _purpose(), language="en", hints=())
            assert time.monotonic() - started_s < 0.5
            service.start()
            await client.wait_until_ready(START_TIMEOUT_S)
            pcm = await _say(client, SENTENCE)
            assert (await client.transcribe(pcm, _purpose(), language="en", hints=())).text
    finally:
        service.stop()


async def _outcome(client: InferenceClient, pcm: bytes) -> object:
    try:
        return await client.transcribe(pcm, _purpose(), language="en", hints=())
    except InferenceUnavailableError as error:
        return error


async def test_absent_service_is_reported_at_once(tmp_path: Path) -> None:
    """No socket: InferenceUnavailableError with a hint, no waiting."""
    async with InferenceClient(tmp_path / "none.sock") as client:
        started_s = time.monotonic()
        with pytest.raises(InferenceUnavailableError) as caught:
            await client.embed(["x"], _purpose())
        assert time.monotonic() - started_s < 1.0
        assert caught.value.hint


async def test_restart_takes_over_a_stale_socket_and_wrong_models_stop_the_start(
    model_store: Path, tmp_path: Path
) -> None:
    """A model that is not there ends the process with its name and the command that mends it."""
    service = Service(tmp_path, '[[asr]]\nmodel = "whisper-huge"\n')
    service.socket.touch()
    service.start()
    assert await asyncio.to_thread(service.process.wait, 30) == 78
    log = service.log.read_text()
    assert "whisper-huge/model.json is missing" in log
    assert "borough models fetch whisper-huge" in log
