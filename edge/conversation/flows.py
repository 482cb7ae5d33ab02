"""Walks through a flow: which step comes next, what is said on the way, where it waits for the caller. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from edge.conversation.agent import Ask, Confirm, Finish, Flow, HandOver, Say, Slot, SlotKind, Step, UseTool
from edge.conversation.dialogue import AnswerKind, Expectation, RunTool
from edge.conversation.template import render

OPEN = Expectation()


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a walk stopped. `texts` were said on the way; `question` is the last of them if it asks something.

    `step` is the step that waits (an Ask, a Confirm, a tool), None when the flow is over.
    """

    texts: tuple[str, ...]
    step: int | None
    slots: Mapping[str, str]
    expectation: Expectation = OPEN
    tool: RunTool | None = None
    hand_over: HandOver | None = None
    hang_up: bool = False


def walk(flow: Flow, start: int, slots: Mapping[str, str]) -> Position:
    """Go on from step `start` until the caller, a tool or a human is needed, or the flow ends.

    Raises TemplateError when a text needs a value that no step has filled.
    """
    texts: list[str] = []
    for number in range(start, len(flow.steps)):
        step = flow.steps[number]
        if not is_taken(step, slots):
            continue
        match step.act:
            case Say(text=text):
                texts.append(render(text, slots))
            case Ask(slot=slot) as ask:
                if slots.get(slot):
                    continue
                texts.append(render(ask.prompt, slots))
                return Position(texts=tuple(texts), step=number, slots=slots, expectation=expectation(flow.slot(slot)))
            case Confirm(prompt=prompt):
                texts.append(render(prompt, slots))
                yes_no = Expectation(kind=AnswerKind.YES_NO)
                return Position(texts=tuple(texts), step=number, slots=slots, expectation=yes_no)
            case UseTool() as use:
                texts.append(render(use.filler, slots))
                arguments = {name: render(template, slots) for name, template in use.arguments.items()}
                tool = RunTool(tool=use.tool, arguments=arguments)
                return Position(texts=tuple(texts), step=number, slots=slots, tool=tool)
            case HandOver() as hand_over:
                texts.append(render(hand_over.text, slots))
                return Position(texts=tuple(texts), step=None, slots=slots, hand_over=hand_over)
            case Finish(text=text, hang_up=hang_up):
                texts.append(render(text, slots))
                return Position(texts=tuple(texts), step=None, slots=slots, hang_up=hang_up)
    return Position(texts=tuple(texts), step=None, slots=slots)


def is_taken(step: Step, slots: Mapping[str, str]) -> bool:
    """Whether the step's conditions hold."""
    return all(slots.get(name) == value for name, value in step.when.items())


def without(slots: Mapping[str, str], names: tuple[str, ...]) -> Mapping[str, str]:
    """Return the slots less some of them, and less what was only half said for them."""
    dropped = {name for slot in names for name in (slot, partial_name(slot))}
    return {name: value for name, value in slots.items() if name not in dropped}


def first_question(flow: Flow, names: tuple[str, ...]) -> int:
    """Return the step that asks for the first of these slots."""
    return next(
        (number for number, step in enumerate(flow.steps) if isinstance(step.act, Ask) and step.act.slot in names), 0
    )


def previous_question(flow: Flow, step: int, slots: Mapping[str, str]) -> str | None:
    """Return the slot asked last before `step`, None if there is none."""
    asked = [
        earlier.act.slot
        for earlier in flow.steps[:step]
        if isinstance(earlier.act, Ask) and is_taken(earlier, slots) and slots.get(earlier.act.slot)
    ]
    return asked[-1] if asked else None


def partial_name(slot: str) -> str:
    """Return under which name the beginning of a string of digits waits for its end."""
    return f"{slot}~"


def expectation(slot: Slot) -> Expectation:
    """Return what the caller will say when asked for the slot."""
    match slot.kind:
        case SlotKind.DIGITS:
            return Expectation(kind=AnswerKind.DIGITS, digits=slot.digits)
        case SlotKind.YES_NO:
            return Expectation(kind=AnswerKind.YES_NO)
        case SlotKind.CHOICE:
            words = tuple(word for choice in slot.choices for word in (choice.value, *choice.words))
            return Expectation(kind=AnswerKind.CHOICE, choices=words)
        case SlotKind.AMOUNT | SlotKind.TEXT | SlotKind.ITEM:
            return Expectation()
