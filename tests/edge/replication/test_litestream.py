"""The log of a Litestream does not grow without bound."""

import os
from pathlib import Path

from edge.replication.litestream import LOG_KEPT_BYTES, LOG_LIMIT_BYTES, Litestream


def test_a_log_that_got_long_is_cut_under_its_writer(tmp_path: Path) -> None:
    litestream = Litestream(Path("litestream"), tmp_path / "a.yml", tmp_path / "a.log")
    litestream.cut_log()
    with litestream.log_file.open("ab") as writer:
        writer.write(b"x" * LOG_LIMIT_BYTES)
        writer.flush()
        litestream.cut_log()
        assert litestream.log_file.stat().st_size == LOG_LIMIT_BYTES
        writer.write(b"newest")
        writer.flush()
        litestream.cut_log()
        os.write(writer.fileno(), b"after")
    assert litestream.log_file.read_bytes() == b"after"
    old = (tmp_path / "a.log.old").read_bytes()
    assert (len(old), old[-6:]) == (LOG_KEPT_BYTES, b"newest")
