"""Which sentences of an agent are known before anybody calls: what to prepare as audio. Pure."""

from collections.abc import Iterator, Sequence

from edge.conversation.agent import Agent, Answer, Intent, texts_of
from edge.conversation.template import TemplateError, placeholders, render
from edge.knowledge.items import Item

# Longer passages are rare and would fill the cache of prepared audio.
_LONGEST_PREPARED_CHARACTERS = 400


def fixed_texts(agent: Agent, items: Sequence[Item]) -> Iterator[str]:
    """Yield every text the agent may say that needs nothing from the call; some more than once."""
    phrases = agent.phrases
    fixed = [agent.greeting, phrases.which_item, phrases.anything_else, phrases.escalating, phrases.silence_goodbye]
    fixed += [
        phrases.goodbye,
        phrases.resume,
        phrases.ring_back,
        *phrases.not_known,
        *phrases.not_understood,
        *phrases.no_input,
    ]
    fixed += [*phrases.transfer_failed.values(), *phrases.filler, phrases.more_digits]
    fixed += [render(phrases.back_to_flow, {"title": flow.title}) for flow in agent.flows.values()]
    fixed += [render(phrases.confirm, {"question": intent.title}) for intent in agent.intents if intent.item is None]
    fixed += [render(phrases.confirm, {"question": item.title}) for item in items]
    if agent.consent is not None:
        fixed += [agent.consent.prompt, agent.consent.again, agent.consent.accepted, agent.consent.declined]
    fixed += [item.answer for item in items if len(item.answer) <= _LONGEST_PREPARED_CHARACTERS]
    for flow in agent.flows.values():
        fixed += [flow.cancelled, *(text for step in flow.steps for text in texts_of(step.act))]
    for intent in agent.intents:
        if intent.item is None:
            fixed += [answer.text for answer in intent.answers]
        else:
            yield from _rendered(intent, [item for item in items if item.source == intent.item])
    for text in fixed:
        if not placeholders(text):
            yield text


def _rendered(intent: Intent, items: Sequence[Item]) -> Iterator[str]:
    """Yield what the intent answers about each item: fixed until the knowledge changes."""
    for item in items:
        answer = fitting_answer(intent.answers, item)
        try:
            if answer is not None:
                yield render(answer.text, item.attributes)
        except TemplateError:
            continue


def fitting_answer(answers: Sequence[Answer], item: Item) -> Answer | None:
    """Return the first answer whose conditions the item's attributes meet."""
    return next(
        (
            answer
            for answer in answers
            if all(item.attributes.get(name) == value for name, value in answer.when.items())
        ),
        None,
    )
