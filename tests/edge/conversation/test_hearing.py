"""What the recogniser adds is taken away; what the caller said stays."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.conversation.classes import with_classes
from edge.conversation.commands import Command, command_in
from edge.conversation.hearing import cleaned, is_fragment, request_in, with_weekdays
from edge.conversation.policy import sensitive_topic


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        ("When do you close? Thanks for watching!", "When do you close?"),
        ("[BLANK_AUDIO]", ""),
        ("(coughing)", ""),
        ("you", ""),
        ("...", ""),
        ("Um, I uh lost my card.", "I lost my card."),
        ("Thank you.", "Thank you."),
        ("I'll call you", "I'll call you"),
        ("Thanks. One will it be ready?", "Thanks. when will it be ready?"),
        ("Our much is that?", "how much is that?"),
        ("One moment, I'll soon be back", "One moment, I'll soon be back"),
        ("Our branch is far", "Our branch is far"),
        ("how much is it, how much is it, how much is it", "how much is it"),
    ],
)
def test_made_up_words_go(heard: str, said: str) -> None:
    """Hallucinated endings, fillers and loops are dropped."""
    assert cleaned(heard) == said


@given(st.text())
def test_any_text_can_be_cleaned(text: str) -> None:
    """Whatever comes, cleaning it again changes nothing more."""
    assert cleaned(cleaned(text)) == cleaned(text)


def test_members_stand_for_their_class() -> None:
    """Countries and currencies become what documents call them; other words stay."""
    assert with_classes("Do you send it to South Korea?") == "Do you send it to another country?"
    assert with_classes("I need some yen") == "I need foreign currency"
    assert with_classes("Where is my order?") == "Where is my order?"


def test_a_deadline_is_no_opening_day() -> None:
    """ "Tomorrow" is a weekday to ask hours for, "by tomorrow" is not."""
    tuesday = date(2026, 11, 24)
    assert with_weekdays("are you open tomorrow", tuesday) == "are you open wednesday"
    assert with_weekdays("I need it by tomorrow", tuesday) == "I need it by tomorrow"


@pytest.mark.parametrize("text", ["I would like to", "my account number is", "", "I want to book a repair for my"])
def test_fragments_wait_for_more(text: str) -> None:
    """Words that break off are not a request."""
    assert is_fragment(text)


@pytest.mark.parametrize("text", ["When do you close?", "how much is it", "I lost my card"])
def test_whole_sentences_do_not(text: str) -> None:
    """A question is complete."""
    assert not is_fragment(text)


def test_a_greeting_is_only_stripped_from_a_request() -> None:
    """ "Hello" alone stays a greeting."""
    assert request_in("Hi, I wanted to ask when you close") == "when you close"
    assert request_in("Hello") == "Hello"


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("Never mind.", Command.CANCEL),
        ("cancel", Command.CANCEL),
        ("I need to cancel my card", None),
        ("Can we start over please", Command.START_OVER),
        ("go back", Command.GO_BACK),
        ("Sorry?", Command.REPEAT),
        ("Could you say that again?", Command.REPEAT),
        ("I want to talk to a human", Command.HUMAN),
        ("I don't want to talk to a machine", Command.HUMAN),
        ("I don't want to talk to a person", None),
        ("What do you need to open an account?", None),
    ],
)
def test_commands_are_told_from_requests(text: str, command: Command | None) -> None:
    """Only words about the conversation itself are commands."""
    assert command_in(text) is command


def test_sensitive_topics_are_found_at_word_borders() -> None:
    """ "Sue you" is found, "issue your" is not."""
    topics = {"complaint": ("sue you",)}
    assert sensitive_topic(topics, "I'm going to sue you!") == "complaint"
    assert sensitive_topic(topics, "did you issue your report") is None
