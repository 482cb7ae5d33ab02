"""The log of the hub's Litestream stays within a bound."""

import os
from pathlib import Path

from controlplane.replication.litestream import LOG_KEPT_BYTES, LOG_LIMIT_BYTES, Litestream


def test_a_log_that_got_long_is_cut_under_its_writer(tmp_path: Path) -> None:
    litestream = Litestream(
        program=Path("litestream"), config=tmp_path / "a.yml", log_file=tmp_path / "a.log", may_finish=lambda: True
    )
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
