"""New calls from the moment of a blow on: when the first one is answered again, and what those before it got.

A probe rings, and hangs up as soon as it is answered. A person would ring again as well.
"""

import asyncio
import contextlib
from dataclasses import dataclass, replace

import aiohttp

from bench.carrier import Carrier
from bench.errors import CarrierError

GIVEN_UP_AFTER_S = 8.0
STEADY_AFTER = 3
LEAST_S = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One new call; `answered_after_s` None: it was not. Seconds since the blow, and since it rang.

    `sip_code` is the last status that the carrier got (0: none came), `cause` Q.850.
    """

    placed_s: float
    answered_after_s: float | None
    sip_code: int = 0
    cause: int = 0

    @property
    def answered_s(self) -> float | None:
        """Since the blow."""
        return None if self.answered_after_s is None else self.placed_s + self.answered_after_s


class SipCodes:
    """The SIP status of every channel of the carrier that was ended (`tech_cause` of ChannelDestroyed)."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self.codes: dict[str, int] = {}

    async def read(self) -> None:
        """Note them; runs until cancelled."""
        access = self._carrier.settings.ari
        headers = {"Authorization": aiohttp.encode_basic_auth(access.user, access.password)}
        url = f"{self._carrier.settings.ari_url}/events?app=drill&subscribeAll=true"
        # Without them, failures are counted as 0: no reason to end a drill.
        with contextlib.suppress(aiohttp.ClientError):
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.ws_connect(url, heartbeat=15.0) as all_,
            ):
                await self._note(all_)

    async def _note(self, events: aiohttp.ClientWebSocketResponse) -> None:
        async for message in events:
            event = message.json()
            if event["type"] == "ChannelDestroyed":
                self.codes[event["channel"]["id"]] = int(event.get("tech_cause", 0))


@dataclass(slots=True)
class Prober:
    """Places probes to `number`; `doors` are tried in their order."""

    carrier: Carrier
    sip_codes: SipCodes
    doors: tuple[str, ...]
    number: str
    caller_number: str
    name: str

    async def run(self, *, began_s: float, every_s: float, within_s: float, struck: asyncio.Event) -> tuple[Probe, ...]:
        """Probe until three in a row were answered, at least six seconds, at most `within_s`.

        One rings at once when `struck` is set. Times count from `began_s` (the loop's clock).
        """
        loop = asyncio.get_running_loop()
        probes: list[Probe] = []
        placed: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as group:
            while loop.time() - began_s < within_s and not _is_steady(probes, loop.time() - began_s):
                number = len(placed)
                placed.append(group.create_task(self._probe(number, began_s, probes), name=f"{self.name}:{number}"))
                await _first_of(struck, every_s)
        return tuple(sorted(probes, key=lambda probe: probe.placed_s))

    async def _probe(self, number: int, began_s: float, probes: list[Probe]) -> None:
        loop = asyncio.get_running_loop()
        placed_s = loop.time()
        code = cause = 0
        answered_after_s: float | None = None
        for attempt, door in enumerate(self.doors):
            channel = f"{self.name}-{number:04}-{attempt}"
            try:
                await self.carrier.originate(
                    channel, f"sip:{self.number}@{door}", self.caller_number, extension="plain"
                )
                async with asyncio.timeout(GIVEN_UP_AFTER_S):
                    refused = await self.carrier.wait_until_answered(channel)
                if refused is None:
                    answered_after_s = loop.time() - placed_s
                    break
                cause = refused.cause
            except (TimeoutError, CarrierError, aiohttp.ClientError):
                cause = 0
            finally:
                await self.carrier.clear(f"{channel}.bridge", channel)
            # The event with the status may come a moment after the one that said so.
            await asyncio.sleep(0.1)
            code = self.sip_codes.codes.pop(channel, 0)
        probes.append(Probe(placed_s=placed_s - began_s, answered_after_s=answered_after_s, sip_code=code, cause=cause))


async def _first_of(struck: asyncio.Event, every_s: float) -> None:
    """Wait for the next probe's time; a blow ends the wait, once."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(every_s):
            await struck.wait()
            struck.clear()


def _is_steady(probes: list[Probe], passed_s: float) -> bool:
    if passed_s < LEAST_S or len(probes) < STEADY_AFTER:
        return False
    last = sorted(probes, key=lambda probe: probe.placed_s)[-STEADY_AFTER:]
    return all(probe.answered_after_s is not None for probe in last)


def since_blow(probes: tuple[Probe, ...], blow_s: float) -> tuple[Probe, ...]:
    """The probes that rang after a blow, counted from it; `blow_s` is on the probes' clock."""
    return tuple(replace(probe, placed_s=probe.placed_s - blow_s) for probe in probes if probe.placed_s >= blow_s)
