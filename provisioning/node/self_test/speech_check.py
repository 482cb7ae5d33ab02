"""Of inference: a sentence is spoken, heard again, and compared; the other models answer."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import grpc

from contract import inference_pb2 as pb
from contract.inference_pb2_grpc import InferenceStub
from provisioning.node.self_test.checks import Check, CheckFailedError

SENTENCE = "Thank you for calling. Our office is open from nine to five on Monday."
LANGUAGE = "en"
# The smallest models get most of it right; noise or another voice's silence does not come near.
LEAST_SHARE_HEARD = 0.6
SAMPLE_RATE_HZ = 16_000
LEAST_AUDIO_S = 1.5
BUDGET_S = 20.0
HEALTH_WITHIN_S = 5.0
MS_A_SECOND = 1000
MESSAGE_BYTES = 8 * 1024 * 1024
_ADVICE = "systemctl status borough-inference; journalctl -u borough-inference -n 50"


@dataclass(frozen=True, slots=True)
class SpeechCheck:
    """The inference service at a socket; `patience`: how many times its time it may take."""

    socket: Path
    patience: float = 1.0

    def all(self) -> list[Check]:
        return [Check(name="inference", within_s=60, ask=self.inference, advice=_ADVICE)]

    async def inference(self) -> str:
        """Voice, recogniser and encoder."""
        options = (("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.use_local_subchannel_pool", 1))
        try:
            async with grpc.aio.insecure_channel(f"unix:{self.socket.absolute()}", options=options) as channel:
                return await _round_trip(InferenceStub(channel), self.patience)
        except grpc.aio.AioRpcError as error:
            raise CheckFailedError(f"{error.code().name.lower()}: {error.details()}", _ADVICE) from error


async def _round_trip(stub: InferenceStub, patience: float) -> str:
    budget_s = BUDGET_S * patience
    context = pb.Context(
        tenant="self-test",
        call_id="self-test",
        priority=pb.PRIORITY_SHADOW,
        budget_ms=int(budget_s * MS_A_SECOND),
    )
    health = await stub.Health(pb.HealthRequest(), timeout=HEALTH_WITHIN_S * patience)
    if not health.ready:
        raise CheckFailedError("the models are not loaded yet", _ADVICE)
    audio = b""
    request = pb.SynthesiseRequest(context=context, text=SENTENCE)
    async for chunk in stub.Synthesise(request, timeout=budget_s):
        audio += chunk.pcm
    spoken_s = len(audio) / 2 / SAMPLE_RATE_HZ
    if spoken_s < LEAST_AUDIO_S:
        raise CheckFailedError(f"the voice made {spoken_s:.1f} s of audio of a long sentence", _ADVICE)
    heard = await stub.Recognise(pb.RecogniseRequest(context=context, pcm=audio, language=LANGUAGE), timeout=budget_s)
    share = share_heard(SENTENCE, heard.text)
    if share < LEAST_SHARE_HEARD:
        raise CheckFailedError(
            f"of what the voice said {share:.0%} was recognised: {heard.text!r}",
            "A model may be damaged or the wrong one: check `models`, then node.toml [models].",
        )
    vectors = await stub.Embed(pb.EmbedRequest(context=context, texts=[SENTENCE]), timeout=budget_s)
    length = math.hypot(*vectors.vectors[0].values) if vectors.vectors else 0.0
    if not math.isclose(length, 1.0, abs_tol=0.01):
        raise CheckFailedError(f"the encoder gave a vector of length {length:.2f} instead of 1", _ADVICE)
    return f"{share:.0%} of {spoken_s:.1f} s of speech recognised, {len(health.models)} models ready"


def share_heard(said: str, heard: str) -> float:
    """How many of the words that were said were heard."""
    words, found = (re.findall(r"[a-z']+", text.lower()) for text in (said, heard))
    return sum(word in found for word in words) / len(words)
