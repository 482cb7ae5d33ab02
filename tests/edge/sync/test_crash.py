"""kill -9 of the agent's process while bundles come: whenever it dies, `current` names a whole bundle."""

import asyncio
import contextlib
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from edge.sync.bundle import BundleReader
from edge.sync.folder import SyncFolder
from edge.sync.settings import SyncSettings
from edge.sync.verification import TrustedKeys
from tests.edge.sync.hub import REGION, SHOP, shop
from tests.edge.sync.played import world

KILLS = 5


def as_toml(settings: SyncSettings) -> str:
    """The settings as an operator writes them."""
    lines: list[str] = []
    sections: list[tuple[tuple[str, ...], dict[str, object]]] = [
        ((), settings.model_dump(mode="json", exclude_none=True))
    ]
    while sections:
        path, section = sections.pop()
        if path:
            lines.append(f"[{'.'.join(path)}]")
        for key, value in section.items():
            if isinstance(value, dict):
                sections.append(((*path, key), value))
            else:
                lines.append(f"{key} = {_as_toml(value)}")
    return "\n".join(lines) + "\n"


def _as_toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_as_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


@asynccontextmanager
async def agent_process(config: Path, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "edge.sync", "--config", str(config), stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_an_agent_that_is_killed_at_any_moment_leaves_a_whole_bundle(tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311 - moments, not secrets
    version, is_over = 0, False

    def marked(text: str) -> str:
        return f"{text}\n# {version}\n"

    async def keep_publishing() -> None:
        nonlocal version
        while not is_over:
            version += 1
            await w.hub.publish(w.hub.signing.bundle(version, shop(marked)))
            await asyncio.sleep(0.1)

    async with world(tmp_path) as w:
        settings = w.settings()
        config = tmp_path / "sync.toml"
        config.write_text(as_toml(settings), encoding="utf-8")
        keys = TrustedKeys([w.hub.signing.key.public_key()])
        reader = BundleReader(region=REGION, keys=keys, limit_bytes=1 << 24)
        folder = SyncFolder(settings.sync.directory, node=settings.node.name, bundles_kept=3)
        publishing = asyncio.create_task(keep_publishing())
        seen = 0
        for _ in range(KILLS):
            async with agent_process(config, tmp_path / "agent.log") as process:
                async with asyncio.timeout(60):
                    while folder.current() <= seen:
                        await asyncio.sleep(0.01)
                await asyncio.sleep(chance.random() * 0.3)
                process.send_signal(signal.SIGKILL)
            assert folder.current() > seen
            seen = folder.current()
            bundle = reader.open(folder.message(seen), newer_than=0)
            assert bundle.version == seen
            text = (settings.sync.directory / "current" / SHOP / "tenant.yaml").read_text(encoding="utf-8")
            assert text.endswith(f"# {seen}\n")
        is_over = True
        await publishing
        async with agent_process(config, tmp_path / "agent.log") as process:
            # One that only this process can ack: told to stop while it still starts, it would die of the signal.
            version += 1
            await w.hub.publish(w.hub.signing.bundle(version, shop(marked)))
            await w.hub.until_acked(version, within_s=30)
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 10) == 0
        assert not list(folder.bundles.glob(".*"))
