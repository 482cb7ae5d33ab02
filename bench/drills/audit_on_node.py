"""Runs on a node or on the hub, with its release: walks the audit chains there.

Imports nothing of the bench: it is sent to machines as it stands (`python - node|hub SETTINGS < audit_on_node.py`) and
answers one line of JSON, a list of chains. Reads only.
"""

import contextlib
import json
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A service reads its secrets where systemd shows them to it alone; root reads them here.
CREDENTIALS, SECRETS = Path("/run/credentials"), Path("/etc/borough/secrets")
WHOLE = "whole"


def node(settings: Path) -> list[dict[str, Any]]:
    """The chain of every tenant in the node's records, as `borough audit verify` does it."""
    from edge.records.database import DatabaseSettings, tenants_in  # noqa: PLC0415 - of the release there
    from edge.records.verification import verify  # noqa: PLC0415

    records = tomllib.loads(min(settings.glob("calls-*.toml")).read_text(encoding="utf-8"))["records"]
    directory, keys, master = Path(records["directory"]), records.get("keys_directory"), records.get("master_key_file")
    database = DatabaseSettings(
        keys_directory=Path(keys) if keys else None, master_key_file=_secret(Path(master)) if master else None
    )
    reports = [verify(directory, tenant, database) for tenant in tenants_in(directory)]
    return [
        {
            "name": report.tenant,
            "verdict": report.verdict.value,
            "entries": report.entries,
            "detail": f"anchor {report.anchor.value}, first broken entry {report.first_broken},"
            f" {len(report.altered_calls)} altered calls",
        }
        for report in reports
    ]


def hub(settings: Path) -> list[dict[str, Any]]:
    """The chain of who did what at the hub."""
    import apsw  # noqa: PLC0415 - of the release there

    from controlplane.audit import verify_chain  # noqa: PLC0415

    path = tomllib.loads((settings / "hub.toml").read_text(encoding="utf-8"))["database"]["path"]
    with contextlib.closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        connection.set_busy_timeout(2000)
        connection.execute("BEGIN")  # one moment for all that is read
        found = verify_chain(connection)
    return [
        {
            "name": "hub",
            "verdict": "BROKEN" if found.first_broken_seq else WHOLE,
            "entries": found.entries,
            "detail": f"first broken entry {found.first_broken_seq or None}",
        }
    ]


def _secret(given: Path) -> Path:
    return SECRETS / given.name if given.is_relative_to(CREDENTIALS) else given


COMMANDS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {"node": node, "hub": hub}

if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](Path(sys.argv[2]))))  # noqa: T201 - its answer
