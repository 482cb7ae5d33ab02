"""What a service is given as its identity before a node has the certificate of its role."""

from pathlib import Path

import pytest

from edge.inference.errors import SiblingAccessError
from edge.inference.identity import read_identity


def test_a_word_in_place_of_a_certificate_is_none(tmp_path: Path) -> None:
    """systemd gives it where the node has no such file; the remedy is named."""
    pem, word = tmp_path / "pem", tmp_path / "inference.key"
    pem.write_text("-----BEGIN CERTIFICATE-----\n")
    word.write_text("none")
    with pytest.raises(SiblingAccessError, match=r"inference\.key: there is none yet") as refused:
        read_identity(pem, pem, word)
    assert "borough node renew" in refused.value.hint


def test_a_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """As the system says it."""
    pem = tmp_path / "pem"
    pem.write_text("-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(SiblingAccessError, match=r"calls\.key: No such file"):
        read_identity(pem, pem, tmp_path / "calls.key")
