"""`python -m provisioning.identity.authority_service --config authority.toml`: the authority of a hub."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path

import structlog

from contract.errors import Blame, BoroughError
from contract.settings import SettingsError
from provisioning.identity.authority_service.service import serve
from provisioning.identity.authority_service.settings import load_settings

log = structlog.get_logger(__name__)

EXIT_FAILED = 1
# sysexits.h EX_CONFIG: an operator must mend something; systemd does not try again.
EXIT_OPERATOR_NEEDED = 78


def main() -> int:
    """Run until a signal; the exit code says whether it was asked to end, failed, or was set up wrongly."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    config: Path = parser.parse_args().config
    try:
        settings = load_settings(config)
    except SettingsError as error:
        print(f"{error}\nhint: {error.hint}", file=sys.stderr)  # noqa: T201 - logs are not set up yet
        return EXIT_OPERATOR_NEEDED
    _configure_logging()
    try:
        asyncio.run(serve(settings))
    except BoroughError as error:
        log.error("authority_not_started", code=error.code, error=str(error), hint=error.hint)  # noqa: TRY400 - named
        return EXIT_OPERATOR_NEEDED if error.blame is Blame.OPERATOR else EXIT_FAILED
    return 0


def _configure_logging() -> None:
    """JSON lines on stderr; what this process logs is the audit of what was signed."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    sys.exit(main())
