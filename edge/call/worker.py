"""`python -m edge.call.worker --config calls.toml`: one call worker, from settings to the last call.

Start order: settings, store, inference (waited for), agents with their knowledge, page, and only then the Stasis app,
because registering it is what brings calls. Stop order: leave the app's door shut, let running calls end within
`drain_s`, leave the rest to a sibling (`edge.call.departure`) or, where none stands by or the node is cordoned, end it
with a word, write the last records. A second signal ends at once. A mistake outside of a call leaves all calls to a
sibling, too.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import aiohttp
import structlog
import uvloop
from aiohttp import web

from contract.errors import BoroughError
from contract.model_manifest import ModelKind
from edge.call.agents import AgentLoader, digest_of, prepare_audio, tenant_folders
from edge.call.departure import Departure, GuardedTasks, alone
from edge.call.reception import Reception, listings, refused_for_want_of_a_slot
from edge.call.recorded_states import RecordedStates
from edge.call.recorder import Recorder
from edge.call.refusal import BackingRefusals, LawRefusals, NoLawRefusals
from edge.call.region import Region, end, join, spawn, taking_part
from edge.call.reload import BundleFollower
from edge.call.ring_back import NoRingBacks
from edge.call.roster import Roster, ServedRoster
from edge.call.saved_call import NoSessions
from edge.call.settings import AsteriskSection, CallsSettings
from edge.call.siblings import Sibling, Siblings
from edge.call.slots import SlotLedger
from edge.call.takeover import Takeover
from edge.disk.guard import DiskGuard
from edge.disk.levels import DiskUse
from edge.exit_status import exit_status
from edge.inference.client import InferenceClient
from edge.inference.model_store import open_model
from edge.inference.route_metrics import RouteCollector
from edge.knowledge.shelf import KnowledgeShelf
from edge.observability.logs import configure_logging
from edge.observability.loop_lag import EventLoopLag
from edge.observability.metrics import CallMetrics, metrics_route
from edge.observability.supervision import Supervision
from edge.records.store import CallStore, StoreSettings
from edge.settings_file import load_settings
from edge.speech.prepared import PreparedAudio
from edge.sync.cordon import Cordon
from edge.telephony.ari import AriAddress, AriClient
from edge.telephony.inbound import InboundCalls
from edge.turn.vad import SileroModel
from edge.web.app import CALLS, create_web_app
from edge.web.calls import WebCalls

log = structlog.get_logger(__name__)

INFERENCE_WITHIN_S = 60.0
SAMPLE_S = 5.0
# Calls of dead workers that were ended at the start are on record then.
SETTLED_WITHIN_S = 5.0


async def serve(settings: CallsSettings) -> None:
    """Serve calls until SIGTERM or SIGINT. Raises BoroughError when something needed is missing."""
    stop = _stop_signal()
    metrics = CallMetrics.create()
    receptions: list[Reception] = []
    async with AsyncExitStack() as stack:
        supervision = stack.enter_context(Supervision(describe=lambda: _status(receptions)))
        records = settings.records
        records.directory.mkdir(parents=True, exist_ok=True)
        store_settings = StoreSettings(database=records.database())
        store = await stack.enter_async_context(CallStore(records.directory, store_settings, closes_orphans=False))
        disk = DiskGuard(records.directory)
        recorder = Recorder(store, metrics, disk)
        states = RecordedStates(
            store=store, directory=records.directory, settings=store_settings.database, record=recorder.keep
        )
        stack.push_async_callback(recorder.flush)
        client = InferenceClient(settings.inference.socket, siblings=settings.inference.siblings)
        inference = await stack.enter_async_context(client)
        metrics.registry.register(RouteCollector(inference.route_counts))
        # Before anything is waited for: calls of this machine's former boot are over, and others may go on with them.
        region = await _join_region(settings, store.run, recorder, metrics, stack)
        supervision.starting("waits for inference")
        await inference.wait_until_ready(INFERENCE_WITHIN_S)
        supervision.starting("loads agents")
        await stack.enter_async_context(EventLoopLag(metrics.loop_lag_p95))
        departure = Departure(settle=recorder.settled)
        tasks = await stack.enter_async_context(GuardedTasks(departure.failed))
        await stack.enter_async_context(departure)
        audio = PreparedAudio(
            settings.speech.prepared,
            inference,
            model=await _voices(inference),
            may_write=lambda: disk.allows(DiskUse.CACHES),
        )
        loader = AgentLoader(
            embedder=inference,
            generator=inference,
            webhooks=await stack.enter_async_context(aiohttp.ClientSession()),
            vectors=settings.speech.vectors,
            shelf=KnowledgeShelf(settings.sync.directory / "knowledge") if settings.sync is not None else None,
        )
        slots = SlotLedger(directory=settings.slots.directory, capacity=settings.slots.capacity)
        reception = Reception(
            roster=await _serve_agents(settings, loader, audio, tasks, stack, metrics),
            transcriber=inference,
            audio=audio,
            vad=SileroModel(_vad_file(settings.models.vad)),
            slots=slots,
            metrics=metrics,
            keep=recorder.keep,
            subject_key=records.subject_key_file.read_bytes(),
            save=states.keep,
            sessions=region.sessions if region is not None else NoSessions(),
            ring_backs=region.ring_backs if region is not None else NoRingBacks(),
            cordon=Cordon.of(settings.slots.cordon_file, settings.sync.directory if settings.sync else None),
            law=_law(settings, audio, slots, metrics),
        )
        receptions.append(reception)
        if region is not None:
            region.sessions.watch(reception.resumed_elsewhere)
        metrics.slots_capacity.set(settings.slots.capacity)
        recording = tasks.create_task(recorder.run(), name="records")
        stack.callback(recording.cancel)
        await _serve_web(settings, reception, tasks, stack)
        inbound = None
        if settings.asterisk is not None:
            inbound = await _serve_sip(settings.worker.name, settings.asterisk, reception, tasks, stack)
        departure.is_armed = True
        takeover = Takeover(states=states, reception=reception, inbound=inbound, tasks=tasks)
        siblings = await _stand_by(settings, takeover, Sibling(run=store.run, app=settings.worker.name), stack)
        if region is not None:
            await recorder.settled(SETTLED_WITHIN_S)
            stack.push_async_callback(end, [spawn(tasks, "marks", region.marks.run)])
        log.info("worker_ready", worker=settings.worker.name)
        supervision.ready()
        await stop.wait()
        supervision.stopping(f"drains {len(reception.running)} calls for {settings.worker.drain_s:.0f} s at most")
        await _drain(reception, siblings, departure, settings.worker.drain_s)


async def _drain(reception: Reception, siblings: Siblings, departure: Departure, within_s: float) -> None:
    """Let calls end; what runs on is a sibling's where one can have it, else it is ended with a word."""
    log.info("worker_draining", calls=len(reception.running))
    siblings.take_nothing_over()
    await reception.drain(within_s)
    is_left = siblings.has_stand_in and not reception.cordon.is_up
    ended = await reception.end_calls(spares_sip=is_left)
    log.info("worker_stopping", calls_ended=ended, calls_left=len(reception.running))
    if reception.running and is_left:
        await departure.leave(0)
    departure.is_armed = False


def _law(settings: CallsSettings, audio: PreparedAudio, slots: SlotLedger, metrics: CallMetrics) -> LawRefusals:
    if settings.sync is None:
        return NoLawRefusals()
    return BackingRefusals(bundle=settings.sync.directory / "current", audio=audio, slots=slots, metrics=metrics)


def _status(receptions: Sequence[Reception]) -> str:
    return "; ".join(
        f"{len(reception.running)} calls here, {reception.slots.in_use()} of {reception.slots.capacity} slots taken,"
        f" {len(reception.roster.current.agents)} agents{', cordoned' if reception.cordon.is_up else ''}"
        for reception in receptions
    )


async def _serve_agents(
    settings: CallsSettings,
    loader: AgentLoader,
    audio: PreparedAudio,
    tasks: asyncio.TaskGroup,
    stack: AsyncExitStack,
    metrics: CallMetrics,
) -> ServedRoster:
    """Serve the agents of the static folder, or those of the newest bundle, now and whenever it changes."""
    roster = ServedRoster()
    if settings.tenants is not None:
        folders = tenant_folders(settings.tenants.directory)
        loaded = [await loader.load(folder, version=digest_of(folder)) for folder in folders]
        roster.swap(Roster(tuple(agent for agents in loaded for agent in agents)))
        log.info("audio_prepared", clips_made=await prepare_audio(roster.current.agents, audio))
    if settings.sync is not None:
        follower = BundleFollower(
            settings.sync.directory,
            settings.worker.name,
            loader=loader,
            roster=roster,
            prepare=lambda served: prepare_audio(served.agents, audio),
            calls_refused=partial(refused_for_want_of_a_slot, metrics),
        )
        await stack.enter_async_context(follower.following(tasks))
    return roster


async def _join_region(
    settings: CallsSettings,
    run: str,
    recorder: Recorder,
    metrics: CallMetrics,
    stack: AsyncExitStack,
) -> Region | None:
    """Take part in the region, in the background: neither start nor calls wait for it."""
    if settings.sessions is None:
        return None
    region = join(
        settings.sessions,
        settings.records,
        run,
        metrics=metrics,
        keep=recorder.keep,
        siblings=settings.inference.siblings,
    )
    if region is not None:
        await stack.enter_async_context(taking_part(region))
    return region


async def _voices(inference: InferenceClient) -> str:
    return ",".join(sorted(load.name for load in await inference.health() if load.kind == "tts"))


def _vad_file(directory: Path) -> Path:
    return open_model(directory.parent, directory.name, ModelKind.VAD).file(".onnx")


async def _serve_web(
    settings: CallsSettings, reception: Reception, tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> None:
    """Serve the page, /metrics and /ready."""
    app = create_web_app(listings(reception.roster.current), reception, tasks=tasks)
    reception.roster.watch(partial(_list_on_page, app[CALLS]))
    app.add_routes([metrics_route(reception.metrics), web.get("/ready", _ready)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, settings.web.host, settings.web.port).start()


def _list_on_page(calls: WebCalls, roster: Roster) -> None:
    calls.agents = listings(roster)


async def _ready(request: web.Request) -> web.Response:
    del request
    return web.json_response({"ready": True})


async def _stand_by(settings: CallsSettings, takeover: Takeover, me: Sibling, stack: AsyncExitStack) -> Siblings:
    """Go on with the calls of workers that died, or will die."""
    metrics = takeover.reception.metrics
    siblings = Siblings(
        settings.slots.directory,
        me,
        on_death=takeover.sibling_died,
        on_hung=metrics.siblings_ended.inc,
        on_change=metrics.siblings.set,
    )
    # Linked first, so that who dies while we look is told too.
    await stack.enter_async_context(siblings)
    await takeover.at_start()
    return siblings


async def _serve_sip(
    app: str, section: AsteriskSection, reception: Reception, tasks: asyncio.TaskGroup, stack: AsyncExitStack
) -> InboundCalls:
    password = section.password_file.read_text(encoding="utf-8").strip()
    address = AriAddress(url=f"{section.url}/ari", user=section.user, password=password)
    client = await stack.enter_async_context(AriClient(address))
    calls = InboundCalls(
        client,
        app=app,
        trunk=section.trunk,
        reconciles=False,
        on_leftover=lambda kind: reception.metrics.leftovers_ended.labels(kind=kind).inc(),
    )
    inbound = await stack.enter_async_context(calls)
    for work, name in ((_take_calls(inbound, reception, tasks), "calls"), (_sample(inbound, reception), "metrics")):
        stack.callback(tasks.create_task(work, name=f"sip:{name}").cancel)
    return inbound


async def _take_calls(inbound: InboundCalls, reception: Reception, tasks: asyncio.TaskGroup) -> None:
    async for call in inbound.incoming():
        tasks.create_task(reception.take(inbound, call), name=f"call:{call.call_id}")


async def _sample(inbound: InboundCalls, reception: Reception) -> None:
    """Bring the gauges up to date that nothing else tells of."""
    seen = 1
    while True:
        reception.metrics.slots_used.set(reception.slots.in_use())
        reception.metrics.ari_reconnects.inc(max(0, inbound.connections - seen))
        seen = max(seen, inbound.connections)
        await asyncio.sleep(SAMPLE_S)


def _stop_signal() -> asyncio.Event:
    """Set by the first SIGTERM or SIGINT; the second ends the process."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            sys.exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m edge.call.worker", description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    path = parser.parse_args().config
    errors: list[BaseException] = []
    try:
        settings = load_settings(path, CallsSettings)
        configure_logging(worker=settings.worker.name)
        uvloop.run(serve(settings))
    except* BoroughError as group:
        errors += alone(group.exceptions)
    if errors:
        sys.stderr.write("".join(f"{error}\n" for error in errors))
        sys.exit(exit_status(errors))


if __name__ == "__main__":
    main()
