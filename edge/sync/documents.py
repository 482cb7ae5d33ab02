"""Whether this release can serve a bundle's documents: the node's own loader tries them in a scratch folder."""

from pathlib import Path

import structlog

from contract import uplink_pb2
from edge.conversation.documents import load_agents
from edge.conversation.errors import DocumentsInvalidError
from edge.sync.errors import RefusedError

log = structlog.get_logger(__name__)

_KINDS = {"agent": "Agent", "flow": "Flow", "policy": "Policy"}


def check_documents(bundle: Path) -> None:
    """Load every tenant of an unpacked bundle; blocks. Raises RefusedError(DOCUMENT) that names the first bad one."""
    for tenant in sorted(path for path in bundle.iterdir() if path.is_dir()):
        try:
            load_agents(tenant, has_replica=True)
        except DocumentsInvalidError as error:
            problem = error.problems[0]
            log.warning("document_refused", tenant=tenant.name, problems=len(error.problems), key=problem.key)
            kind, name = _named(Path(problem.path), tenant.name)
            raise _refused(kind, name) from error
        except Exception as error:
            # What no check foresaw must not end the agent: the document is refused like any other bad one.
            log.exception("document_broke_loader", tenant=tenant.name)
            raise _refused("Tenant", tenant.name) from error


def _named(path: Path, tenant: str) -> tuple[str, str]:
    prefix, _, name = path.stem.partition("-")
    return (_KINDS[prefix], name) if prefix in _KINDS and name else ("Tenant", tenant)


def _refused(kind: str, name: str) -> RefusedError:
    return RefusedError(
        uplink_pb2.REFUSAL_DOCUMENT, f"{kind} {name} cannot be served", document_kind=kind, document_name=name
    )
