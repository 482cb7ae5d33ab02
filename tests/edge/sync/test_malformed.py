"""What a server that was taken over answers, or a certificate half written, never ends the agent."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from edge.sync.connection import NatsLink
from edge.sync.jetstream import JetStreamError, api_request
from edge.sync.leaf import LeafLinks
from edge.sync.settings import CertificateSection, NatsSection
from provisioning.identity.names import ServiceName, ServiceRole
from provisioning.identity.store import IdentityStore
from tests.edge.replication.conftest import Server, running, until

ANSWERS = (b"no json", b"[1]", b'{"error": {}}', b'{"error": {"code": "x"}}', b'{"error": 7}')
LEAFS = (*ANSWERS[:2], b'{"data": {"leafs": [{"id": "x"}]}}', b'{"data": {"leafs": [{}]}}', b'{"data": 7}')


async def answering(client: Client, subject: str, *answers: bytes) -> None:
    async def answer(message: Msg) -> None:
        for data in answers:
            await client.publish(message.reply, data)

    await client.subscribe(subject, cb=answer)
    # Who asks may do so over another connection: the server must know of the subscription by then.
    await client.flush()


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_malformed_answer_of_jetstream_is_a_failed_request(client: Client, answer: bytes) -> None:
    await answering(client, "api.info", answer)
    with pytest.raises(JetStreamError):
        await api_request(client, "api.info")


async def test_a_malformed_list_of_links_counts_for_nothing(server: Server, client: Client) -> None:
    good = b'{"server": {"id": "S"}, "data": {"leafs": [{"id": 7}]}}'
    await answering(client, "$SYS.REQ.SERVER.PING.LEAFZ", *LEAFS, good)
    link = NatsLink("system", NatsSection(urls=(server.url,)), None)
    async with running(link.run()):
        await until(lambda: link.is_up)
        assert [(leaf.server, leaf.connection) for leaf in await LeafLinks(link).all()] == [("S", 7)]


async def test_a_certificate_that_is_half_written_is_read_again_later(tmp_path: Path) -> None:
    store = IdentityStore(tmp_path / "identity")
    store.init(datetime.now(UTC))
    name = ServiceName(site="in-south", node="in-south-1", role=ServiceRole.AGENT)
    store.issue(name, datetime.now(UTC))
    files = CertificateSection(certificate=store.certificate_file(name), key=store.key_file(name))
    link = NatsLink("agent", NatsSection(urls=("tls://127.0.0.1:1",), ca=store.authority_file), files)
    whole = files.certificate.read_bytes()
    files.certificate.write_bytes(whole[:100])
    await link._disconnected()
    files.certificate.write_bytes(whole)
    await link._failed(ConnectionRefusedError())
