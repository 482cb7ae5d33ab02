"""Errors of the NATS topology.

NatsTopologyError
├── TopologyError     the description contradicts itself
└── NatsConfigError   nats-server refuses what was rendered, or an identity is missing
"""

from contract.errors import Blame, BoroughError


class NatsTopologyError(BoroughError):
    """Base of this tree."""

    code = "nats.topology_error"
    blame = Blame.OPERATOR


class TopologyError(NatsTopologyError):
    """The description of hub and regions contradicts itself."""

    code = "nats.topology"
    hint = "Regions and nodes need names of their own: 2 to 32 lower-case letters, digits and hyphens."


class NatsConfigError(NatsTopologyError):
    """nats-server refuses what was rendered."""

    code = "nats.config"
    blame = Blame.LOCAL
    hint = "This is a bug: report it with the message of `nats-server -t`."
