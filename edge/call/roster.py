"""Who answers: the agents that new calls get, swapped as a whole while running calls keep theirs."""

from collections.abc import Callable
from dataclasses import dataclass

from edge.call.errors import UnknownNumberError
from edge.conversation.conversation import AgentConversation
from edge.conversation.tools import Toolbox


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedAgent:
    """An agent that this worker answers for."""

    conversation: AgentConversation
    tools: Toolbox
    version: str

    @property
    def listed_name(self) -> str:
        """How the page names the agent."""
        agent = self.conversation.agent
        return f"{agent.tenant}/{agent.name}"


@dataclass(frozen=True, slots=True)
class Roster:
    """The agents of one moment."""

    agents: tuple[ServedAgent, ...] = ()

    def by_number(self, number: str) -> ServedAgent:
        """Return who answers a called number. Raises UnknownNumberError."""
        digits = number.removeprefix("+")
        for served in self.agents:
            if digits in {own.removeprefix("+") for own in served.conversation.agent.numbers}:
                return served
        raise UnknownNumberError("no agent answers the called number")

    def by_name(self, listed_name: str) -> ServedAgent:
        """Return who is listed under a name. Raises UnknownNumberError."""
        for served in self.agents:
            if served.listed_name == listed_name:
                return served
        raise UnknownNumberError("no agent of this name is served any more")


class ServedRoster:
    """The roster that holds now. Who takes it once, at the start of a call, has one version to its end."""

    def __init__(self, roster: Roster | None = None) -> None:
        self._current = roster or Roster()
        self._watchers: list[Callable[[Roster], None]] = []

    @property
    def current(self) -> Roster:
        return self._current

    def swap(self, roster: Roster) -> None:
        """Give new calls these agents, and tell the watchers."""
        self._current = roster
        for watcher in self._watchers:
            watcher(roster)

    def watch(self, watcher: Callable[[Roster], None]) -> None:
        """Call `watcher` now and after every swap."""
        self._watchers.append(watcher)
        watcher(self._current)
