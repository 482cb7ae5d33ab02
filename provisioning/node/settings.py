"""The settings file of every service, from its places. Pure.

The services share no code with this package: what each allows is in edge/{sync,replication,call,inference}/settings.py
and controlplane/settings.py, and a test reads every file with those.
"""

from dataclasses import asdict
from pathlib import Path

from provisioning.identity.names import ServiceRole
from provisioning.node.places import Credential, HubPlaces, ModelChoice, NodePlaces, Service, SiblingPlaces
from provisioning.toml_text import TomlSections, TomlValue


def worker_name(index: int) -> str:
    """Of a call worker, counted from 1, and of its Stasis app."""
    return f"calls-{index}"


def pair(credential: Credential, role: ServiceRole) -> dict[str, TomlValue]:
    """Certificate and key, as settings name them."""
    return {"certificate": credential(f"{role}.pem"), "key": credential(f"{role}.key")}


def sync_sections(places: NodePlaces, metrics_port: int) -> TomlSections:
    """`sync.toml`, of the node agent."""
    credential = places.credential(Service.AGENT)
    return {
        "node": {"region": places.region, "name": places.name},
        "nats": {
            **_region_access(places, credential),
            "mirror_replicas": places.replicas,
            **({"server_log": places.server_log} if places.server_log is not None else {}),
        },
        "nats.agent": pair(credential, ServiceRole.AGENT),
        "nats.border": pair(credential, ServiceRole.BORDER),
        "nats.system": pair(credential, ServiceRole.SYSTEM),
        "hub": {"trusted_keys": [str(credential("signing.pub"))]},
        "sync": {"directory": places.sync, "workers_expected": places.workers},
        "records": {"directory": places.records},
        "slots": _slots(places),
        "replication": _keys(places),
        "metrics": {"port": metrics_port},
    }


def replication_sections(places: NodePlaces, metrics_port: int) -> TomlSections:
    """`replication.toml`."""
    credential = places.credential(Service.LITESTREAM)
    return {
        "node": {"name": places.name},
        "nats": {**_region_access(places, credential), "replicas": places.replicas},
        "nats.agent": pair(credential, ServiceRole.AGENT),
        "nats.litestream": pair(credential, ServiceRole.LITESTREAM),
        "records": {"directory": places.records, "ledger": places.sync / "rollups.db", **_keys(places)},
        "litestream": {"directory": places.litestream},
        "watch": {"port": metrics_port},
    }


def worker_sections(places: NodePlaces, index: int, web_port: int, credential: Credential) -> TomlSections:
    """`calls-<index>.toml`. Each worker has credentials of its own."""
    records: dict[str, TomlValue] = {
        "directory": places.records,
        "subject_key_file": credential("subjects"),
        "is_replicated": bool(places.urls),
        **_keys(places),
    }
    if places.keys is not None:
        records["master_key_file"] = credential("master")
    sections: TomlSections = {
        "worker": {"name": worker_name(index)},
        "inference": {"socket": places.inference_socket},
        **_asked_siblings(places, credential),
        "slots": _slots(places),
        "records": records,
        "speech": {"prepared": places.prepared, "vectors": places.vectors},
        "models": {"vad": places.models / places.vad},
        "web": {"host": "127.0.0.1", "port": web_port},
    }
    if places.tenants is not None:
        sections["tenants"] = {"directory": places.tenants}
    else:
        sections["sync"] = {"directory": places.sync}
    if places.urls:
        sections["sessions"] = {
            "node": places.name,
            "urls": list(places.urls),
            "authority": credential("authority.pem"),
            **pair(credential, ServiceRole.CALLS),
        }
    if places.asterisk is not None:
        place = places.asterisk
        sections["asterisk"] = {"url": place.url, "user": place.user, "password_file": credential("ari")}
        if place.trunk is not None:
            sections["asterisk"]["trunk"] = place.trunk
    return sections


def inference_sections(socket: Path, store: Path, models: ModelChoice, metrics_port: int | None = None) -> TomlSections:
    """`inference.toml` of a node or of a hub, which serves an embedding model alone."""
    sections: TomlSections = {"": {"socket": socket, "store": store}}
    if models.asr is not None:
        sections["[asr]"] = {"model": models.asr}
    if models.tts is not None:
        sections["[tts]"] = {"model": models.tts}
    if models.llm is not None:
        sections["llm"] = {"model": models.llm}
    if models.embedding is not None:
        sections["embedding"] = {"model": models.embedding, "threads": models.embedding_threads}
    if metrics_port is not None:
        sections["metrics"] = {"port": metrics_port}
    return sections


def served_siblings(places: NodePlaces) -> TomlSections:
    """What `inference.toml` of a node has more; nothing where it answers its own call workers alone."""
    siblings, credential = places.siblings, places.credential(Service.INFERENCE)
    if siblings is None:
        return {}
    section: dict[str, TomlValue] = {
        "host": siblings.host,
        **_sibling_access(places, siblings, credential, ServiceRole.INFERENCE),
        "roster": siblings.inference_roster,
    }
    return {"siblings": section}


def hub_sections(places: HubPlaces) -> TomlSections:
    """`hub.toml`, of the control plane."""
    credential = places.credential(Service.CONTROLPLANE)
    own, authority = pair(credential, ServiceRole.CONTROLPLANE), credential("authority.pem")
    sections: TomlSections = {
        "hub": {"name": places.name},
        "database": {"path": places.database},
        "nats": {
            "url": places.nats_url,
            "authority": authority,
            "server_log": places.server_log,
            "monitor": places.nats_monitor,
            **own,
        },
        "admin": {
            "host": places.admin_host,
            "port": places.admin_port,
            "authority": authority,
            "revoked_file": places.revoked_file,
            **own,
        },
        "signing": {"key_file": credential("signing.key")},
        "inference": {"socket": places.inference_socket},
        "metrics": {"port": places.metrics_port},
        "replication": {"directory": places.litestream, **pair(credential, ServiceRole.LITESTREAM)},
    }
    if places.enrolment is not None:
        # Its fields are named as the settings are.
        sections["enrolment"] = asdict(places.enrolment)
    return sections


def _region_access(places: NodePlaces, credential: Credential) -> dict[str, TomlValue]:
    return {"urls": list(places.urls), "ca": credential("authority.pem")}


def _asked_siblings(places: NodePlaces, credential: Credential) -> TomlSections:
    siblings = places.siblings
    if siblings is None:
        return {}
    access = _sibling_access(places, siblings, credential, ServiceRole.CALLS)
    return {"inference.siblings": {**access, "roster": siblings.calls_roster}}


def _sibling_access(
    places: NodePlaces, siblings: SiblingPlaces, credential: Credential, role: ServiceRole
) -> dict[str, TomlValue]:
    return {
        "port": siblings.port,
        "region": places.region,
        "node": places.name,
        "authority": credential("authority.pem"),
        **pair(credential, role),
    }


def _slots(places: NodePlaces) -> dict[str, TomlValue]:
    slots: dict[str, TomlValue] = {"directory": places.slots, "capacity": places.capacity}
    return slots if places.cordon is None else slots | {"cordon_file": places.cordon}


def _keys(places: NodePlaces) -> dict[str, TomlValue]:
    return {} if places.keys is None else {"keys_directory": places.keys}
