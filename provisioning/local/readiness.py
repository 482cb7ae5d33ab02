"""How the supervisor tells that a service serves."""

import asyncio
from http import HTTPStatus
from pathlib import Path

import aiohttp

LOOK_WITHIN_S = 1.0


async def accepts_connection(path: Path) -> bool:
    """Whether something listens on a unix socket."""
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
    writer.close()
    return True


async def answers_http(url: str) -> bool:
    """Whether a GET is answered with 200."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=LOOK_WITHIN_S)) as session,
            session.get(url) as answer,
        ):
            return answer.status == HTTPStatus.OK
    except (aiohttp.ClientError, TimeoutError):
        return False
