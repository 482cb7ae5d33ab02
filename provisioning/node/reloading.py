"""Has running services take over rendered files, as far as that costs no call.

nats-server reads users and pins again on SIGHUP; the agent and Litestream are started again. Asterisk, inference and
call workers are left alone: their units are named, and the operator or the playbook drains the node first.

A hub that hears of a new region starts its nats-server anew: on SIGHUP 2.15.1 makes the account of the region's links
and its users, but nothing passes from it into CENTRAL, whose connections stand. Regions go on without a hub meanwhile.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from provisioning.identity.names import ServiceRole
from provisioning.nats.eviction import SystemAccess, close_links
from provisioning.node.description import HubDescription
from provisioning.node.errors import RenderError
from provisioning.node.folder import Change
from provisioning.node.identity_folder import IdentityFolder
from provisioning.node.places import Service
from provisioning.node.rendering import nats_hub

# Longer than the longest stop and start of a unit that is started anew: Litestream's, 40 s and 90 s.
COMMAND_TIMEOUT_S = 180.0
RELOADED_WITHIN_S = 30.0
_LINK_ACCOUNT = re.compile(r'"(LINK_[a-z0-9-]+)": \{')
_URI = re.compile(r"borough://[a-z0-9/-]+")
# Whose restart no call notices.
_RESTARTED = (Service.AGENT, Service.LITESTREAM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What was done about changes, by unit, and what is left to do."""

    reloaded: tuple[str, ...]
    restarted: tuple[str, ...]
    left: tuple[str, ...]


async def take_over(changes: Sequence[Change], monitor_port: int) -> Taken:
    """Reload or restart what may be. Raises RenderError when a service does not take its new file."""
    units = list(dict.fromkeys(change.unit for change in changes if change.unit))
    # The arbiter's ports are one higher (provisioning/node/roster.py).
    monitors = {str(Service.NATS): monitor_port, str(Service.ARBITER): monitor_port + 1}
    anew = {change.unit for change in changes if _link_accounts(change.before) != _link_accounts(change.after)}
    reloaded = [unit for unit in units if unit in monitors and unit not in anew and await is_active(unit)]
    for unit in reloaded:
        await _reload_nats(unit, monitors[unit])
    restarted = [unit for unit in units if (unit in _RESTARTED or unit in anew) and await is_active(unit)]
    for unit in restarted:
        await systemctl("restart", unit)
    left = [unit for unit in units if unit not in (*reloaded, *restarted) and await is_active(unit)]
    return Taken(reloaded=tuple(reloaded), restarted=tuple(restarted), left=tuple(left))


async def close_links_of_gone(changes: Sequence[Change], hub: HubDescription, folder: IdentityFolder) -> int:
    """On the hub: close all links when somebody may no longer come, since a reload leaves the links of nodes open.

    Raises NatsConfigError.
    """
    for change in changes:
        if change.unit == Service.NATS and _users(change.before) - _users(change.after):
            files = folder.current(ServiceRole.SYSTEM)
            access = SystemAccess(authority=folder.authority, certificate=files.certificate, key=files.key)
            return await close_links(nats_hub(hub), access)
    return 0


# Who is given certificates and is no service of calls (call_services.py), in the order in which they start anew.
HOLDERS = (
    Service.NATS,
    Service.ARBITER,
    Service.AGENT,
    Service.LITESTREAM,
    Service.CONTROLPLANE,
    "prometheus-exporter-exporter",
    "prometheus",
)


async def restart_holders() -> list[str]:
    """Start everybody anew who is given certificates and runs; each is ready again when the next one is started.

    Raises RenderError.
    """
    restarted = [str(unit) for unit in HOLDERS if await is_active(unit)]
    for unit in restarted:
        await systemctl("restart", unit)
    return restarted


async def is_active(unit: str) -> bool:
    """Whether systemd runs it; no where there is no systemd."""
    try:
        return await _run("systemctl", "is-active", "--quiet", unit) == (0, "")
    except FileNotFoundError:
        return False


async def shown(unit: str, name: str) -> str:
    """A property of a unit; a time in seconds since 1970, after an @. Raises RenderError."""
    code, output = await _run("systemctl", "show", "--timestamp=unix", "--value", f"--property={name}", unit)
    if code != 0:
        raise RenderError(f"systemctl show {unit}: {output.strip()}")
    return output.strip()


async def systemctl(verb: str, unit: str) -> None:
    """Raises RenderError."""
    code, output = await _run("systemctl", verb, unit)
    if code != 0:
        raise RenderError(f"systemctl {verb} {unit}: {output.strip()}", hint=f"journalctl -u {unit} says why.")


async def _reload_nats(unit: str, monitor_port: int) -> None:
    before = await _loaded_at(monitor_port)
    await systemctl("reload", unit)
    try:
        async with asyncio.timeout(RELOADED_WITHIN_S):
            while await _loaded_at(monitor_port) == before:  # noqa: ASYNC110 - nats-server tells nobody when it has read it
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise RenderError(
            f"{unit} goes on with its old configuration: not every change can be taken over while it runs",
            hint=f"systemctl restart {unit}",
        ) from None


async def _loaded_at(monitor_port: int) -> str:
    try:
        timeout = aiohttp.ClientTimeout(total=RELOADED_WITHIN_S)
        url = f"http://127.0.0.1:{monitor_port}/varz"
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            return str((await answer.json())["config_load_time"])
    except (aiohttp.ClientError, TimeoutError) as error:
        raise RenderError(f"nats-server does not answer on {url}: {error}") from error


async def _run(*argv: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise RenderError(f"{' '.join(argv)} took longer than {COMMAND_TIMEOUT_S:.0f} s") from None
    return process.returncode or 0, output.decode(errors="replace")


def _link_accounts(text: str | None) -> set[str]:
    return set(_LINK_ACCOUNT.findall(text or ""))


def _users(text: str | None) -> set[str]:
    return set(_URI.findall(text or ""))
