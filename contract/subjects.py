"""Every NATS subject, stream, bucket and account of Borough. Nothing else in the project formats one.

A region has two accounts. `REGION` holds what must not leave (calls, sessions, replicas of records) and is bound to
nothing outside. `BORDER` holds only what may cross; the leaf link is bound to it, and the hub grants that link exactly
the subjects below. The hub has one account, `CENTRAL`.
"""

HUB_DOMAIN = "hub"
HUB_ACCOUNT = "CENTRAL"
REGION_ACCOUNT = "REGION"
BORDER_ACCOUNT = "BORDER"
SYSTEM_ACCOUNT = "SYS"
# At the hub the links of a region end in an account of their own.
LINK_ACCOUNT_PREFIX = "LINK_"


# --- up: from a region to the hub ---------------------------------------------------------------------------------
def rollup(region: str, node: str) -> str:
    """`uplink.Rollup`."""
    return f"up.{region}.rollup.{node}"


def ack(region: str, node: str) -> str:
    """`uplink.Ack`."""
    return f"up.{region}.ack.{node}"


def health(region: str, node: str) -> str:
    """`uplink.Health`."""
    return f"up.{region}.health.{node}"


def ping(region: str, node: str) -> str:
    """Request whose empty answer proves that the hub's services hear the node."""
    return f"up.{region}.ping.{node}"


def up(region: str) -> str:
    """All that a region may say to the hub."""
    return f"up.{region}.>"


# --- down: from the hub to a region -------------------------------------------------------------------------------
def bundle(region: str) -> str:
    """`downlink.BundleMessage`."""
    return f"down.{region}.config.bundle"


def config_beat(region: str) -> str:
    """`downlink.Beat` in the configuration stream."""
    return f"down.{region}.config.beat"


def knowledge(region: str, tenant: str) -> str:
    """`downlink.KnowledgeMessage`."""
    return f"down.{region}.knowledge.{tenant}"


def knowledge_beat(region: str) -> str:
    """`downlink.Beat` in the knowledge stream; beside the tenants' subjects, so that no tenant can be named so."""
    return f"down.{region}.knowledge-beat"


def config_stream(region: str) -> str:
    """Stream at the hub, mirrored under the same name in the region's BORDER account."""
    return f"CONFIG_{region}"


def knowledge_stream(region: str) -> str:
    """Stream at the hub, mirrored under the same name in the region's BORDER account."""
    return f"KNOWLEDGE_{region}"


def snapshot_bucket(region: str) -> str:
    """Object store of knowledge snapshots at the hub, mirrored under the same name in the region."""
    return f"snapshots_{region}"


def object_stream(bucket: str) -> str:
    """The stream that carries an object store (ADR-20)."""
    return f"OBJ_{bucket}"


def object_subjects(bucket: str) -> list[str]:
    """The subjects of an object store: chunks, and the entries of its directory."""
    return [f"$O.{bucket}.C.>", f"$O.{bucket}.M.>"]


def config_subjects(region: str) -> list[str]:
    return [f"down.{region}.config.>"]


def knowledge_subjects(region: str) -> list[str]:
    return [f"down.{region}.knowledge.>", knowledge_beat(region)]


# --- what JetStream tells of itself, in each account ---------------------------------------------------------------
STREAM_CHANGES = ("$JS.EVENT.ADVISORY.STREAM.CREATED.*", "$JS.EVENT.ADVISORY.STREAM.UPDATED.*")


# --- what nobody refuses: the hub hears a copy, to count what is none of ours -------------------------------------
WITNESS = "witness"
# nats-server 2.15 lets a leaf link publish these whatever its permissions say (leafMsgAllowed in leafnode.go).
PASSED_BY_SERVER = ("$JS.ACK.>", "_R_.>", "_GR_.>")


def witness(region: str) -> str:
    """Prefix, at the hub, of the copies of what came over a region's links."""
    return f"{WITNESS}.{region}"


def link_events(region: str) -> list[str]:
    """Where the hub's server tells, in its system account, of each link of a region that begins or ends."""
    return [f"$SYS.ACCOUNT.{link_account(region)}.{what}" for what in ("CONNECT", "DISCONNECT")]


def link_account(region: str) -> str:
    """The hub's account in which the links of a region end."""
    return f"{LINK_ACCOUNT_PREFIX}{region}"


# --- streams and buckets that live at the hub only ----------------------------------------------------------------
ROLLUP_STREAM = "ROLLUPS"
ROLLUP_SUBJECTS = ("up.*.rollup.*",)
# The newest of each node is enough.
STATE_STREAM = "STATES"
STATE_SUBJECTS = ("up.*.health.*", "up.*.ack.*")
LEASE_BUCKET = "leases"
HUB_REPLICA_BUCKET = "hub-records"
# Which copy of the hub's database was last active.
HUB_STATE_BUCKET = "hub-state"

# --- buckets that live in the REGION account only -----------------------------------------------------------------
# Key-value: which node of the region does what only one may do.
LOCK_BUCKET = "sync-locks"
# Key-value: who called whom within a day, by `recent_caller`.
RECENT_CALLERS_BUCKET = "recent-callers"


def recent_caller(tenant: str, subject_id: str) -> str:
    """Key of a data subject's newest calls to a tenant."""
    return f"{tenant}.{subject_id}"


# Key-value: where each live call stands, and which cut-off call was resumed as which, by `session`.
SESSIONS_BUCKET = "sessions"
# What call workers tell each other of sessions, answers among it.
SESSIONS = "sessions.>"
SESSIONS_INBOX = "sessions.inbox"


def session(tenant: str, subject_id: str, call_digest: str) -> str:
    """Key of one call of a data subject to a tenant; `*` as the digest: of all its calls."""
    return f"{tenant}.{subject_id}.{call_digest}"


def session_owner(node: str) -> str:
    """Request to the workers of a node that has a call, or had it: what became of it there."""
    return f"sessions.owner.{node}"


def session_resumed(node: str) -> str:
    """Tells the workers of a node that a call of theirs, which was cut off, was resumed elsewhere."""
    return f"sessions.resumed.{node}"


def key_value_stream(bucket: str) -> str:
    """The stream that carries a key-value bucket."""
    return f"KV_{bucket}"


def key_value_subject(bucket: str, key: str) -> str:
    """The subject of one key in the stream of its bucket."""
    return f"$KV.{bucket}.{key}"


def replica_bucket(node: str) -> str:
    """Object store that Litestream writes the databases of one node to."""
    return f"records-{node}"


def inbox(region: str, node: str) -> str:
    """Prefix of a border connection's reply subjects; the hub may answer a region only there."""
    return f"_INBOX.{region}.{node}"


def inboxes(region: str) -> str:
    return f"_INBOX.{region}.>"
