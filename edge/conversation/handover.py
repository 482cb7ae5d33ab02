"""What a human gets with a transferred caller: a spoken briefing and a summary for the screen. Pure."""

from edge.conversation.agent import Agent
from edge.conversation.dialogue import DialogueState, Escalate

_REASONS = {
    "asked_for_human": "The caller asked for a person.",
    "misunderstood": "I did not understand the caller.",
    "not_known": "I could not answer the caller's question.",
    "tool_failed": "A system I needed did not answer.",
    "consent_declined": "The caller did not agree to talk to the assistant.",
}


def hand_over(agent: Agent, state: DialogueState, reason: str, heard: str) -> Escalate:
    """Return the action that transfers this caller, with all that was said so far."""
    details = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in _facts(state).items())
    flow = agent.flows.get(state.flow) if state.flow is not None else None
    briefing = [_REASONS.get(reason, f"Reason: {reason.replace('_', ' ')}.")]
    if flow is not None:
        briefing.append(f"It is about: {flow.title}.")
    if heard:
        briefing.append(f"Their last words: {heard.rstrip('.!?')}.")
    if details:
        briefing.append(f"Collected: {details}.")
    transcript = [{"caller": turn.caller, "agent": turn.agent, "intent": turn.intent} for turn in state.history]
    summary: dict[str, object] = {
        "tenant": agent.tenant,
        "agent": agent.name,
        "reason": reason,
        "task": flow.title if flow is not None else None,
        "topic": state.topic_item_id,
        "slots": _facts(state),
        "last_words": heard,
        "transcript": transcript,
    }
    return Escalate(reason=reason, destination=agent.human, briefing=" ".join(briefing), summary=summary)


def _facts(state: DialogueState) -> dict[str, str]:
    return {name: value for name, value in state.slots.items() if not name.endswith("~")}
