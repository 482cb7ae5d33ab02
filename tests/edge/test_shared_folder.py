"""Files are as open as the folder that they lie in, and never to everybody."""

from pathlib import Path

import pytest

from edge.call.slots import SlotLedger
from edge.records.database import DatabaseSettings, open_database
from edge.records.presence import Presence
from edge.shared_folder import protect


@pytest.mark.parametrize(
    ("folder_mode", "file_mode"), [(0o2770, 0o660), (0o755, 0o600), (0o770, 0o600), (0o2750, 0o600)]
)
def test_a_folder_of_a_group_makes_files_of_the_group(tmp_path: Path, folder_mode: int, file_mode: int) -> None:
    """Only a setgid folder that its group may write shares; the umask of the process does not matter."""
    tmp_path.chmod(folder_mode)
    path = tmp_path / "file"
    path.touch()
    protect(path)
    assert path.stat().st_mode & 0o777 == file_mode


def test_databases_presence_and_slots_follow_it(tmp_path: Path) -> None:
    """A database with its WAL, a worker's run and the slots can be opened by the group of a shared folder."""
    tmp_path.chmod(0o2770)
    connection = open_database(tmp_path / "records.db", DatabaseSettings(), ())
    connection.execute("CREATE TABLE more (x)")
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    connection.close()
    assert set(modes) == {"records.db", "records.db-wal", "records.db-shm"}
    assert set(modes.values()) == {0o660}
    with Presence(tmp_path) as presence:
        (tmp_path / "workers").chmod(0o2770)
        assert (tmp_path / "workers" / presence.run).stat().st_mode & 0o007 == 0
    with SlotLedger(directory=tmp_path, capacity=1).take():
        assert (tmp_path / "0000").stat().st_mode & 0o777 in {0o640, 0o660}
