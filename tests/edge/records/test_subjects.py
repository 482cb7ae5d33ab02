"""Callers are known by a keyed hash of their number."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.records.errors import SubjectKeyError
from edge.records.subjects import name_subject

KEY = bytes(range(32))


def test_spelling_makes_no_difference() -> None:
    assert len({name_subject(number, KEY) for number in ("+49 30 123456", "+49(30)123-456", "004930123456")}) == 1


@given(st.from_regex(r"\+\d{7,15}", fullmatch=True))
def test_the_number_is_not_in_its_id_and_the_key_decides(number: str) -> None:
    subject = name_subject(number, KEY)
    assert len(subject) == 32
    assert number[1:] not in subject
    assert subject != name_subject(number, bytes(32))


def test_a_short_key_is_refused() -> None:
    with pytest.raises(SubjectKeyError):
        name_subject("+4930123456", b"short")


@pytest.mark.parametrize("number", ["", "anonymous", "Unavailable", "restricted", "web", "anonymous@anonymous.invalid"])
def test_callers_who_do_not_say_who_they_are_are_not_one_person(number: str) -> None:
    assert len({name_subject(number, KEY) for _ in range(3)}) == 3
    assert len(name_subject(number, KEY)) == 32


@pytest.mark.parametrize("number", ["12", "anna@example.org"])
def test_extensions_and_addresses_name_a_person(number: str) -> None:
    assert name_subject(number, KEY) == name_subject(number, KEY)
