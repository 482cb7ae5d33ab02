"""The README names every module of the contract."""

from pathlib import Path

import contract

_FOLDER = Path(contract.__file__).parent


def test_every_module_has_a_row() -> None:
    """Stubs go with their protos."""
    rows = [line for line in (_FOLDER / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    modules = [path.name for path in _FOLDER.glob("*.proto")]
    modules += [path.stem for path in _FOLDER.glob("*.py") if "_pb2" not in path.name and path.stem != "__init__"]
    assert [name for name in modules if not any(f"`{name}`" in row for row in rows)] == []
