"""What a call needs from the outside: one leg of audio, control of its channels, models, a conversation.

Adapters: `edge.media` (Asterisk's websocket, WebRTC), `edge.telephony` (ARI), `edge.inference.client`,
`edge.conversation`.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 320
FRAME_BYTES = 2 * FRAME_SAMPLES


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioReceived:
    """Audio from the caller: int16 little-endian mono at 16 kHz, normally one 20 ms frame."""

    pcm: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayoutReached:
    """The caller has heard all audio that was sent before the mark of this name."""

    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitPressed:
    """A DTMF digit: one of 0-9, *, #, A-D."""

    digit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LegClosed:
    """The leg's audio ended; nothing follows."""

    reason: str


LegEvent = AudioReceived | PlayoutReached | DigitPressed | LegClosed


class MediaLeg(Protocol):
    """The caller's audio, both ways. Audio is int16 little-endian mono at 16 kHz."""

    async def receive(self) -> LegEvent:
        """Return the next event; after LegClosed it keeps returning LegClosed."""

    async def send(self, pcm: bytes) -> None:
        """Queue audio for the caller; waits while more than two seconds are queued."""

    async def mark(self, name: str) -> None:
        """Ask for PlayoutReached(name) once everything sent so far has been played."""

    async def pause(self) -> None:
        """Stop playing at once and keep what is queued."""

    async def resume(self) -> None:
        """Go on where `pause` stopped."""

    async def flush(self) -> None:
        """Stop playing at once and drop what is queued; marks in it are never reached."""


class HangupCause(StrEnum):
    """Why we end a leg, as Q.850 causes (ITU-T Q.850 table 1)."""

    NORMAL = "16"
    USER_BUSY = "17"
    NO_ANSWER = "19"
    UNALLOCATED_NUMBER = "1"
    NO_CIRCUIT = "34"
    TEMPORARY_FAILURE = "41"
    CONGESTION = "42"


class TransferOutcome(StrEnum):
    """How an attempt to reach a human ended."""

    CONNECTED = "connected"
    BUSY = "busy"
    NO_ANSWER = "no_answer"
    UNREACHABLE = "unreachable"
    CALLER_GONE = "caller_gone"


class CallControl(Protocol):
    """Control of one call's channels."""

    @property
    def was_lost(self) -> bool:
        """Whether the caller's leg is gone although nobody hung up: what carried it failed."""

    async def hang_up(self, cause: HangupCause) -> None:
        """End the caller's leg; does nothing when it is already gone."""

    async def transfer(self, destination: str, *, whisper: Sequence[bytes], timeout_s: float) -> TransferOutcome:
        """Ring `destination` (a SIP URI), play `whisper` to the human alone, then connect both.

        Returns once connected or failed; on failure the caller is still with us.
        """

    async def wait_until_ended(self) -> None:
        """Return when the caller's leg is gone (also after a completed transfer)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """What the recogniser made of one utterance. Times are seconds inside the inference service."""

    text: str
    no_speech_probability: float
    average_log_probability: float
    queued_s: float
    computed_s: float


class Priority(StrEnum):
    """Who goes first in front of a model (contract/inference.proto)."""

    LIVE = "live"
    SPECULATIVE = "speculative"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """For whom and how urgently a model works; `budget_s` is how long the answer is of use."""

    tenant: str
    call_id: str
    priority: Priority
    budget_s: float


class Transcriber(Protocol):
    async def transcribe(self, pcm: bytes, purpose: Purpose, *, language: str, hints: Sequence[str]) -> Transcript:
        """Recognise one utterance (16 kHz int16 mono). Raises InferenceUnavailableError or InferenceLateError."""


class Synthesizer(Protocol):
    def synthesize(self, text: str, purpose: Purpose, *, voice: str) -> AsyncIterator[bytes]:
        """Speech for one clause, 16 kHz int16 mono, in chunks. Raises as Transcriber does."""


class Embedder(Protocol):
    async def embed(self, texts: Sequence[str], purpose: Purpose) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), dimensions). Raises as Transcriber does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One turn as a language model sees it; `speaker` is "caller" or "agent"."""

    speaker: str
    text: str


class Generator(Protocol):
    def generate(
        self, system: str, messages: Sequence[ChatMessage], purpose: Purpose, *, max_tokens: int
    ) -> AsyncIterator[str]:
        """Generated text in pieces. Raises as Transcriber does."""
