"""A region of three nodes with the certificates and permissions of production."""

from pathlib import Path

from contract.litestream_config import DatabaseKind, NatsAccess, database_bucket
from edge.records.database import DatabaseSettings
from edge.records.store import CallReader, CallStore, StoreSettings
from edge.replication.restore import RestoreOrder, restore
from edge.replication.service import ReplicationService
from edge.replication.settings import ReplicationSettings
from provisioning.identity.names import ServiceRole
from provisioning.nats.topology import Node
from tests.edge.records.examples import a_call, a_turn
from tests.edge.replication.conftest import Board, running, until
from tests.nats_network import Network, nats_network


def credentials(network: Network, node: Node, role: ServiceRole) -> dict[str, str]:
    store, name = network.deployment.identities, node.service(role)
    return {"certificate": str(store.certificate_file(name)), "key": str(store.key_file(name))}


def replication_settings(network: Network, node: Node, directory: Path) -> ReplicationSettings:
    return ReplicationSettings.model_validate(
        {
            "node": {"name": node.name},
            "nats": {
                "urls": [f"tls://127.0.0.1:{node.client_port}"],
                "ca": str(network.deployment.identities.authority_file),
                "agent": credentials(network, node, ServiceRole.AGENT),
                "litestream": credentials(network, node, ServiceRole.LITESTREAM),
                "replicas": 3,
            },
            "records": {"directory": str(directory / "records")},
            "litestream": {"directory": str(directory / "litestream")},
        }
    )


async def test_a_sibling_restores_the_records_of_a_lost_node(tmp_path: Path) -> None:
    async with nats_network(tmp_path, {"in-south": 3}) as network:
        lost, sibling = network.node("in-south", 1), network.node("in-south", 2)
        agent = await network.connect(lost, ServiceRole.AGENT)
        service = ReplicationService(replication_settings(network, lost, tmp_path), agent.jetstream(), Board())
        buckets = {database_bucket(lost.name, kind, "acme") for kind in (DatabaseKind.RECORDS, DatabaseKind.KEYS)}
        async with running(service.run()):
            async with CallStore(tmp_path / "records", StoreSettings()) as store:
                await store.save(a_call())
                await store.save(a_turn())
            await until(lambda: buckets <= set(service.watch.lags) and not any(service.watch.lags.values()), 40)
        user = credentials(network, sibling, ServiceRole.AGENT)
        master_key = DatabaseSettings(master_key_file=tmp_path / "records" / "keys" / "master.key")
        order = RestoreOrder(
            tenant="acme",
            from_node=lost.name,
            target=tmp_path / "restored",
            nats=NatsAccess(
                url=f"tls://127.0.0.1:{sibling.client_port}",
                authority=str(network.deployment.identities.authority_file),
                certificate=user["certificate"],
                key=user["key"],
            ),
            database=master_key,
        )
        report = await restore(order)
    assert report.audit.is_whole
    assert CallReader(tmp_path / "restored", "acme", master_key).turns("c1") == (a_turn(),)
