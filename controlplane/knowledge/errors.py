"""Errors of the hub's knowledge.

ControlPlaneError
├── KnowledgeItemsError          items are wrong; nothing was stored
├── KnowledgeSourceError         a file, folder or feed of items cannot be read
├── KnowledgeNotFoundError       the tenant has no knowledge, or not this version
├── KnowledgeNowhereError        no region serves the tenant
├── EmbeddingUnavailableError    the inference service gave no vectors
└── KnowledgeNotSentError        stored, but NATS does not have it yet
"""

from contract.errors import Blame
from controlplane.errors import ControlPlaneError


class KnowledgeItemsError(ControlPlaneError):
    """Items are wrong; nothing was stored."""

    code = "hub.knowledge_items"
    blame = Blame.OPERATOR
    hint = "Mend the line that is named and build again."
    grpc_status = "INVALID_ARGUMENT"


class KnowledgeSourceError(ControlPlaneError):
    """A file, folder or feed of items cannot be read."""

    code = "hub.knowledge_source"
    blame = Blame.OPERATOR
    hint = "Mend what is named; `borough agent validate DIR` checks a tenant's folder."


class KnowledgeNotFoundError(ControlPlaneError):
    """The tenant has no knowledge at the hub, or not this version."""

    code = "hub.knowledge_not_found"
    blame = Blame.OPERATOR
    hint = "`borough knowledge status` lists tenants and versions; `borough knowledge build` makes a draft."
    grpc_status = "NOT_FOUND"


class KnowledgeNowhereError(ControlPlaneError):
    """No region serves the tenant, so that there is nowhere to publish to."""

    code = "hub.knowledge_nowhere"
    blame = Blame.OPERATOR
    hint = "Apply the tenant's documents first: its governance names the regions."
    grpc_status = "FAILED_PRECONDITION"


class EmbeddingUnavailableError(ControlPlaneError):
    """The inference service gave no vectors; the draft is as it was."""

    code = "hub.embedding_unavailable"
    blame = Blame.OPERATOR
    hint = "Is the hub's inference service running? Build again afterwards: vectors already made are kept."
    grpc_status = "UNAVAILABLE"


class KnowledgeNotSentError(ControlPlaneError):
    """The version is stored, but NATS does not have it yet."""

    code = "hub.knowledge_not_sent"
    blame = Blame.OPERATOR
    hint = "Nothing is lost: the hub sends it when its nats-server answers again."
    grpc_status = "UNAVAILABLE"
