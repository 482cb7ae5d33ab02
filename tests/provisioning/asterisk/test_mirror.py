"""The Debian mirror is taken from apt's own sources, whichever way they are written."""

from pathlib import Path

import pytest

from provisioning.asterisk.errors import AsteriskImageError
from provisioning.asterisk.mirror import find_mirror


def test_deb822_source_is_found(tmp_path: Path) -> None:
    """Comments and the security archive are passed over."""
    sources = tmp_path / "sources.list.d"
    sources.mkdir()
    (sources / "debian.sources").write_text(
        "Types: deb\n# http://snapshot.debian.org/archive/debian/20250520T000000Z\n"
        "URIs: http://security.example/debian-security http://mirror.example/debian/\nSuites: bookworm\n"
    )
    assert find_mirror(tmp_path) == "http://mirror.example/debian"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("deb http://mirror.example/debian bookworm main", "http://mirror.example/debian"),
        ("deb [arch=amd64 signed-by=/x.gpg] https://m.example/pub/debian sid main", "https://m.example/pub/debian"),
        ("deb [ arch=amd64 ] http://mirror.example/debian sid main", "http://mirror.example/debian"),
    ],
)
def test_one_line_source(tmp_path: Path, line: str, found: str) -> None:
    """Options, comments, sources of others and nonsense."""
    (tmp_path / "sources.list").write_text(line + "\n")
    assert find_mirror(tmp_path) == found


@pytest.mark.parametrize(
    "line",
    [
        "# deb http://mirror.example/debian bookworm main",
        "deb-src http://mirror.example/debian bookworm main",
        "deb http://packages.example/cloud stable main",
        "deb cdrom:[Debian]/ bookworm main",
        "deb",
        "deb [arch=amd64",
    ],
)
def test_a_machine_without_a_debian_source_is_told_to_add_one(tmp_path: Path, line: str) -> None:
    (tmp_path / "sources.list").write_text(line)
    with pytest.raises(AsteriskImageError) as refused:
        find_mirror(tmp_path)
    assert "sources.list" in refused.value.hint
