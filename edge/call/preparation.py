"""Prepares the answer to an utterance before the turn is known to be over: recognise, understand, first audio.

Nothing here changes the call. A preparation is either committed, and its reply spoken, or dropped, and its work
cancelled; that is why it may run while the caller is only pausing.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Protocol

from edge.call.ports import Purpose, Transcriber, Transcript
from edge.conversation.dialogue import DialogueState, Reply, Speech
from edge.speech.prepared import PreparedAudio

Now = Callable[[], float]


class Responder(Protocol):
    """The part of a conversation that answers."""

    async def respond(self, state: DialogueState, heard: str, purpose: Purpose) -> Reply:
        """The reply to what was heard; changes nothing."""

    async def digits(self, state: DialogueState, digits: str, purpose: Purpose) -> Reply:
        """The reply to keys pressed; changes nothing."""


class ClipStream:
    """A clip that is being synthesised: readable from its start at any time, as often as wanted."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._grown = asyncio.Condition()
        self._is_complete = False
        self._error: Exception | None = None

    async def fill(self, pieces: AsyncIterator[bytes]) -> None:
        """Take the pieces as they come; an error reaches whoever reads."""
        try:
            async for piece in pieces:
                await self._grow(piece)
        except Exception as error:  # noqa: BLE001 - raised again in `read`, where somebody waits for it
            self._error = error
        finally:
            self._is_complete = True
            await self._grow(b"")

    async def read(self) -> AsyncIterator[bytes]:
        """All pieces, waiting for those still to come. Raises what the synthesis raised."""
        index = 0
        while not self._is_complete or index < len(self._pieces):
            async with self._grown:
                while not self._is_complete and index == len(self._pieces):
                    await self._grown.wait()
            for piece in self._pieces[index:]:
                yield piece
                index += 1
        if self._error is not None:
            raise self._error

    async def wait_for_first(self) -> None:
        """Return once there is something to play, or never will be."""
        async with self._grown:
            await self._grown.wait_for(lambda: self._is_complete or bool(self._pieces))

    async def _grow(self, piece: bytes) -> None:
        async with self._grown:
            if piece:
                self._pieces.append(piece)
            self._grown.notify_all()


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """When the stages of a preparation ended, on the monotonic clock; the queue and compute shares of recognition."""

    began: float
    recognised: float = 0.0
    understood: float = 0.0
    audible: float = 0.0
    recognise_queue_s: float = 0.0
    recognise_compute_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The answer to one utterance, ready to be spoken. `reply` is None when no words were recognised.

    `heard` is what the reply answers: the digits `keyed` and the words of the transcript.
    """

    transcript: Transcript | None
    keyed: str
    heard: str
    reply: Reply | None
    first_clip: ClipStream | None
    times: StageTimes

    @property
    def first_speech(self) -> Speech | None:
        """The sentence that `first_clip` says."""
        return self.reply.speeches[0] if self.reply is not None and self.reply.speeches else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparer:
    """Runs the stages for one call; `voice` and `language` are the agent's."""

    transcriber: Transcriber
    responder: Responder
    audio: PreparedAudio
    now: Now
    voice: str
    language: str

    async def from_speech(
        self, pcm: bytes, state: DialogueState, purpose: Purpose, *, tasks: asyncio.TaskGroup, keyed: str
    ) -> Prepared:
        """Answer an utterance (16 kHz int16 mono). `keyed`: digits pressed for this turn.

        Raises InferenceUnavailableError or InferenceLateError.
        """
        times = StageTimes(began=self.now())
        # Words that were just offered; any others make recognition worse (edge/README.md).
        hints = state.expectation.choices
        transcript = await self.transcriber.transcribe(pcm, purpose, language=self.language, hints=hints)
        times = replace(
            times,
            recognised=self.now(),
            recognise_queue_s=transcript.queued_s,
            recognise_compute_s=transcript.computed_s,
        )
        heard = f"{keyed} {transcript.text}".strip()
        if not heard:
            return Prepared(transcript=transcript, keyed="", heard="", reply=None, first_clip=None, times=times)
        reply = await self.responder.respond(state, heard, purpose)
        answered = await self._with_audio(reply, heard, purpose, tasks=tasks, times=times)
        return replace(answered, transcript=transcript, keyed=keyed)

    async def from_digits(
        self, digits: str, state: DialogueState, purpose: Purpose, *, tasks: asyncio.TaskGroup
    ) -> Prepared:
        """Answer keyed digits, which need no recognition. Raises as `from_speech`."""
        times = StageTimes(began=self.now(), recognised=self.now())
        reply = await self.responder.digits(state, digits, purpose)
        answered = await self._with_audio(reply, digits, purpose, tasks=tasks, times=times)
        return replace(answered, keyed=digits)

    async def _with_audio(
        self, reply: Reply, heard: str, purpose: Purpose, *, tasks: asyncio.TaskGroup, times: StageTimes
    ) -> Prepared:
        times = replace(times, understood=self.now())
        clip = self.open_clip(reply.speeches[0], purpose, tasks=tasks) if reply.speeches else None
        if clip is not None:
            await clip.wait_for_first()
        times = replace(times, audible=self.now())
        return Prepared(transcript=None, keyed="", heard=heard, reply=reply, first_clip=clip, times=times)

    def open_clip(self, speech: Speech, purpose: Purpose, *, tasks: asyncio.TaskGroup) -> ClipStream:
        """Begin to synthesise (or read from prepared audio) a sentence."""
        stream = ClipStream()
        pieces = self.audio.speech(speech.text, purpose, voice=self.voice)
        tasks.create_task(stream.fill(pieces), name=f"call:{purpose.call_id}:synthesis")
        return stream
