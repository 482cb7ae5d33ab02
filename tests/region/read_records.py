"""Runs on a node, with its release: prints, as JSON, the turns of every call of every tenant that are on its disk."""

import contextlib
import json
import sys
from pathlib import Path

from edge.records.database import DatabaseSettings, database_path, open_reader, tenants_in

TURNS = "SELECT calls.call_id, turns.seq FROM calls LEFT JOIN turns USING (call_id) ORDER BY 1, 2"


def _read(directory: Path) -> dict[str, dict[str, list[int]]]:
    found: dict[str, dict[str, list[int]]] = {}
    for tenant in tenants_in(directory):
        calls = found.setdefault(tenant, {})
        with contextlib.closing(open_reader(database_path(directory, tenant), DatabaseSettings())) as reader:
            for call_id, seq in reader.execute(TURNS):
                calls.setdefault(str(call_id), []).extend([] if seq is None else [int(str(seq))])
    return found


if __name__ == "__main__":
    print(json.dumps(_read(Path(sys.argv[1]))))  # noqa: T201 - its answer
