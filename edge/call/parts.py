"""What one call is made of, and what it needs of the conversation and its tools."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from edge.call.history import CallFacts, CallHistory
from edge.call.observer import CallObserver
from edge.call.ports import CallControl, MediaLeg, Purpose, TransferOutcome
from edge.call.preparation import Preparer
from edge.call.resumption import Resumption, RingBack
from edge.call.saved_call import SavedCall
from edge.call.watchdog import WatchdogSettings
from edge.conversation.dialogue import DialogueState, Reply, RunTool, Speech, ToolResult
from edge.turn.activity import SpeechActivity


class Conversation(Protocol):
    """What a call needs of a conversation (`edge.conversation.conversation.AgentConversation`)."""

    def opening(self) -> Reply: ...

    async def respond(self, state: DialogueState, heard: str, purpose: Purpose) -> Reply: ...

    async def digits(self, state: DialogueState, digits: str, purpose: Purpose) -> Reply: ...

    async def after_tool(self, state: DialogueState, result: ToolResult) -> Reply: ...

    def after_transfer_failed(self, state: DialogueState, outcome: TransferOutcome) -> Reply: ...

    def no_input(self, state: DialogueState, count: int) -> Reply: ...

    def resume(self, state: DialogueState) -> Reply: ...

    def welcome_back(self, state: DialogueState, unheard: tuple[Speech, ...] = ()) -> Reply: ...

    def restored(self, state: DialogueState) -> DialogueState: ...

    def heard_only(self, state: DialogueState, heard_text: str) -> DialogueState: ...


class ToolRunner(Protocol):
    """The agent's tools (`edge.conversation.tools.Toolbox`)."""

    async def run(self, action: RunTool, *, key: str) -> ToolResult:
        """Run a tool once per `key`; failures are part of the result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallParts:
    """What a call is made of. `human` is where a call goes that we cannot help; `filler` bridges a late reply;
    `farewell` is what a caller hears whom the node's stop cuts off (`edge.call.farewell`);
    `save` takes the state of the call for whoever may have to go on with it, and returns at once; `ring_back` is the
    call that its caller was cut off from."""

    facts: CallFacts
    leg: MediaLeg
    control: CallControl
    conversation: Conversation
    preparer: Preparer
    activity: SpeechActivity
    history: CallHistory
    observer: CallObserver
    tools: ToolRunner
    human: str
    filler: str
    farewell: bytes = b""
    now: Callable[[], float]
    save: Callable[[SavedCall], None] = field(default=lambda _: None)
    resumption: Resumption | None = None
    ring_back: RingBack | None = None
    watchdog: WatchdogSettings = field(default_factory=WatchdogSettings)
