"""A folder is whole or not there."""

from pathlib import Path

import pytest

from provisioning.staging import staged


def test_a_folder_that_is_finished_takes_its_name(tmp_path: Path) -> None:
    """And nothing else is left, also where the folder above it had to be made."""
    with staged(tmp_path / "made" / "image", "done") as staging:
        assert not (tmp_path / "made" / "image").exists()
        (staging / "done").touch()
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["image"]


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    """What went wrong is told."""

    def fail() -> None:
        with staged(tmp_path / "image", "done") as staging:
            (staging / "half").touch()
            raise RuntimeError("full")

    with pytest.raises(RuntimeError, match="full"):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("theirs", ["done", "half"])
def test_who_was_faster_is_believed_if_theirs_is_whole(tmp_path: Path, theirs: str) -> None:
    """A folder that somebody else left unfinished is an error."""

    def make() -> None:
        with staged(tmp_path / "image", "done") as staging:
            (staging / "done").touch()
            (tmp_path / "image").mkdir()
            (tmp_path / "image" / theirs).touch()

    if theirs == "done":
        make()
    else:
        with pytest.raises(OSError, match="not empty"):
            make()
    assert [path.name for path in (tmp_path / "image").iterdir()] == [theirs]
    assert [path.name for path in tmp_path.iterdir()] == ["image"]
