"""The check of inference against the real service with real models."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from contract import inference_pb2 as pb
from contract.inference_pb2_grpc import InferenceStub
from provisioning.node.places import ModelChoice
from provisioning.node.self_test.checks import CheckFailedError
from provisioning.node.self_test.speech_check import SENTENCE, SpeechCheck, share_heard
from provisioning.node.settings import inference_sections
from provisioning.toml_text import toml_text

MODELS = Path(__file__).resolve().parents[4] / ".state" / "models"
READY_WITHIN_S = 60.0


@pytest.fixture
async def inference(tmp_path: Path) -> AsyncIterator[Path]:
    """The service without a language model; gives its socket."""
    if not MODELS.is_dir():
        pytest.skip("no models here: make setup")
    socket, config = tmp_path / "inference.sock", tmp_path / "inference.toml"
    models = ModelChoice(asr="whisper-tiny.en", tts="en_US-joe-medium", embedding="minilm-l6-v2")
    config.write_text(toml_text(inference_sections(socket, MODELS, models)))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "edge.inference", "--config", str(config), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            await InferenceStub(channel).Health(pb.HealthRequest(), timeout=READY_WITHIN_S, wait_for_ready=True)
        yield socket
    finally:
        process.kill()
        await process.wait()


async def test_what_is_spoken_is_heard(inference: Path) -> None:
    """Voice, recogniser and encoder work together."""
    assert "of speech recognised" in await SpeechCheck(inference).inference()


async def test_a_service_that_is_down_is_named(tmp_path: Path) -> None:
    """At once, with what to do."""
    with pytest.raises(CheckFailedError, match="unavailable") as failed:
        await SpeechCheck(tmp_path / "none.sock").inference()
    assert "borough-inference" in failed.value.advice


def test_noise_is_no_speech() -> None:
    """Words are compared, not letters."""
    assert share_heard(SENTENCE, SENTENCE.upper()) == 1.0
    assert share_heard(SENTENCE, "you") < 0.2
