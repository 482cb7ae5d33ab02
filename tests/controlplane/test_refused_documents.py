"""A document that the hub takes and no node can serve: it is caught before it is sent, and if not, it is named and
taken back. The node's own judgement is edge/sync's, the messages are the real ones."""

import json
import time
from pathlib import Path

import zstandard
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from contract.downlink_pb2 import Bundle, BundleManifest, BundleMessage
from contract.subjects import ack, bundle, config_stream, health
from contract.uplink_pb2 import SUBJECT_BUNDLE, Ack, Health
from edge.sync.documents import check_documents
from edge.sync.errors import RefusedError
from tests.controlplane.hub_process import Hub
from tests.controlplane.test_service import write_estate
from tests.nats_network import eventually

REGION = "in-south"
NODES = ("in-south-1", "in-south-2")


def spoil(estate: Path) -> Path:
    """A question with a place that nobody fills: its shape is right."""
    agent = estate / "bank/agent.yaml"
    agent.write_text(agent.read_text().replace("not_known: I don't", 'confirm: "{quest}?"\n    not_known: I don\'t'))
    return agent


async def newest(nats: Client) -> tuple[int, Bundle]:
    message = BundleMessage.FromString(
        (await nats.jetstream().get_last_msg(config_stream(REGION), bundle(REGION))).data or b""
    )
    manifest = BundleManifest.FromString(message.manifest.body)
    return manifest.version, Bundle.FromString(zstandard.ZstdDecompressor().decompress(message.content))


async def nodes_answer(nats: Client, directory: Path, version: int, *, runs: int) -> int:
    """Each node of the region tries the newest bundle as nodes do, and says what came of it; returns what runs."""

    async def is_there() -> bool:
        try:
            return (await newest(nats))[0] == version
        except NotFoundError:  # none was published yet
            return False

    await eventually(is_there)
    _, content = await newest(nats)
    folder = directory / str(version)
    for document in content.documents:
        if document.tenant:
            path = folder / document.tenant / f"{document.kind.lower()}-{document.name}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(document.yaml)
    said = Ack(region=REGION, subject=SUBJECT_BUNDLE, version=version, at_ms=time.time_ns() // 1_000_000)
    try:
        check_documents(folder)
    except RefusedError as error:
        said.refusal = error.refusal
        said.document_kind, said.document_name = error.document_kind, error.document_name
    else:
        runs = version
    for node in NODES:
        said.node = node
        well = Health(region=REGION, node=node, at_ms=time.time_ns() // 1_000_000, bundle_version=runs)
        await nats.jetstream().publish(ack(REGION, node), said.SerializeToString())
        await nats.jetstream().publish(health(REGION, node), well.SerializeToString())
    return runs


async def test_what_no_node_can_serve_is_not_sent(hub: Hub, tmp_path: Path) -> None:
    estate = write_estate(tmp_path / "estate")
    assert (await hub.run("apply", "-f", str(estate))).exit_code == 0
    agent = spoil(estate)
    line = 1 + agent.read_text().splitlines().index('    confirm: "{quest}?"')
    for arguments in (
        ["apply", "-f", str(estate)],
        ["apply", "-f", str(agent), "-f", str(estate / "bank/tenant.yaml")],
    ):
        refused = await hub.run(*arguments)
        assert refused.exit_code == 2, refused.output
        assert f"{agent}:{line}: spec.phrases.confirm: {{quest}} has no value here" in refused.stderr
        assert "--no-check" in refused.stderr
    as_json = await hub.run("apply", "-f", str(estate), "--json")
    assert json.loads(as_json.stderr)["error"]["code"] == "hub.documents_refused"
    listed = json.loads((await hub.run("get", "agents", "--json")).output)
    assert {stored["document"]["revision"] for stored in listed["documents"]} == {1}


async def test_a_change_is_checked_together_with_what_is_stored(hub: Hub, tmp_path: Path) -> None:
    estate = write_estate(tmp_path / "estate")
    assert (await hub.run("apply", "-f", str(estate))).exit_code == 0
    alone = tmp_path / "alone.yaml"
    text = (estate / "bank/agent.yaml").read_text()
    alone.write_text(text.replace("Hello from bank.", "Welcome."))
    done = await hub.run("apply", "-f", str(alone))
    assert (done.exit_code, "agent/bank/line updated" in done.output) == (0, True), done.output
    alone.write_text(text.replace("not_known: I don't", 'confirm: "{quest}?"\n    not_known: I don\'t'))
    assert (await hub.run("apply", "-f", str(alone))).exit_code == 2


async def test_a_document_that_all_nodes_refuse_is_named_and_rolled_back(
    hub: Hub, nats: Client, tmp_path: Path
) -> None:
    estate = write_estate(tmp_path / "estate")
    assert (await hub.run("apply", "-f", str(estate))).exit_code == 0
    runs = await nodes_answer(nats, tmp_path / "node", 1, runs=0)
    assert runs == 1
    spoil(estate)
    assert (await hub.run("apply", "-f", str(estate), "--no-check")).exit_code == 0
    assert await nodes_answer(nats, tmp_path / "node", 2, runs=runs) == runs
    # Both tenants have an agent of this name, and nodes do not say whose it is: the one changed last comes first.
    said = (
        "in-south: every node refuses bundle 2 for agent bank/line or agent shop/line; "
        "mend it, or `borough rollback agent bank/line`"
    )

    async def is_named() -> bool:
        return said in (await hub.run("fleet", "status")).output

    await eventually(is_named)
    reply = json.loads((await hub.run("fleet", "status", "--region", REGION, "--json")).output)
    (refused,) = reply["regions"][0]["refused_documents"]
    assert (refused["nodes"], refused["by_all"]) == (list(NODES), True)
    assert (await hub.run("fleet", "status", "--check")).exit_code == 1
    assert "agent/bank/line updated" in (await hub.run("rollback", "agent", "bank/line")).output
    assert await nodes_answer(nats, tmp_path / "node", 3, runs=runs) == 3

    async def is_well() -> bool:
        return (await hub.run("fleet", "status", "--region", REGION, "--check")).exit_code == 0

    await eventually(is_well)
    assert "refuses" not in (await hub.run("fleet", "status")).output
