"""What a caller may say at any point: cancel, start over, go back, say that again. Pure, by words alone."""

import re
from enum import StrEnum


class Command(StrEnum):
    """A request about the conversation itself."""

    CANCEL = "cancel"
    START_OVER = "start_over"
    GO_BACK = "go_back"
    REPEAT = "repeat"
    HUMAN = "human"


_PATTERNS = {
    Command.HUMAN: (
        r"^(?!.*\b(?:don't|do not|not)\b).*\b(?:speak|talk|connect|transfer|put|get|give|want|need|like|have|reach"
        r"|rather)\b.{0,30}\b(?:human(?: being)?|real person|a person|operator|an agent|live agent|representative|"
        r"employees?|manager|supervisor|your colleagues?|a colleague|staff|customer service)\b(?! account)"
        r"|\b(?:don't|do not|not|hate|refuse)\b.{0,25}\b(?:talk|speak)(?:ing)?\b.{0,20}"
        r"\b(?:machine|robot|bot|computer)\b"
    ),
    Command.START_OVER: r"\b(?:start (?:over|again|from)|begin again|from the (?:beginning|start))\b",
    Command.GO_BACK: r"\b(?:go back|previous (?:question|step|one)|back up|one step back)\b",
    Command.REPEAT: (
        r"^(?:sorry|pardon|what|excuse me|come again|huh|say again)(?: me| what)?$"
        r"|\b(?:repeat (?:that|it|yourself)|say (?:that|it) (?:again|one more time)|what did you (?:just )?say"
        r"|didn't (?:catch|hear|get) (?:that|you|it)|can you repeat|could you repeat|one more time please)\b"
    ),
    # "Cancel my card" is a request of its own, not a wish to leave the task.
    Command.CANCEL: (
        r"\b(?:never ?mind|forget (?:it|that|about it|the whole thing)|leave it|stop this"
        r"|cancel(?: this| that| it)?(?= *$|,| please| thanks)|(?:don't|do not) want to (?:do this|continue|go on)"
        r"|changed my mind)\b"
    ),
}


def command_in(text: str) -> Command | None:
    """Return the command the words are, None if they are something else."""
    lowered = re.sub(r"[^a-z' ,]", " ", text.lower()).strip(" ,")
    lowered = " ".join(lowered.split())
    return next((command for command, pattern in _PATTERNS.items() if re.search(pattern, lowered)), None)
