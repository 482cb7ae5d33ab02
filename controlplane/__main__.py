"""`python -m controlplane --config hub.toml`: one instance of the hub."""

import argparse
import sys
from pathlib import Path

import structlog
import uvloop

from contract.errors import BoroughError
from contract.settings import SettingsError
from controlplane.logs import configure_logging
from controlplane.service import serve
from controlplane.settings import load_settings

log = structlog.get_logger(__name__)

EXIT_FAILED = 1
EXIT_SETTINGS = 78


def main() -> int:
    """Run until a signal; the exit code says whether it was asked to end, failed, or was set up wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    config: Path = parser.parse_args().config
    try:
        settings = load_settings(config)
    except SettingsError as error:
        print(f"{error}\nhint: {error.hint}", file=sys.stderr)  # noqa: T201 - logs are not set up yet
        return EXIT_SETTINGS
    configure_logging(instance=settings.hub.name)
    exit_code = 0
    try:
        uvloop.run(serve(settings))
    except* BoroughError as group:
        exit_code = EXIT_FAILED
        for reason in _leaves(group):
            log.error("hub_failed", code=reason.code, error=str(reason), hint=reason.hint)  # noqa: TRY400 - named
    return exit_code


def _leaves(group: BaseExceptionGroup[BoroughError]) -> list[BoroughError]:
    found: list[BoroughError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


if __name__ == "__main__":
    sys.exit(main())
