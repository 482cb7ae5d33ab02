"""Who belongs to each region, as its bundle says it: nodes from the hub's database, certificates as the authority last
told them."""

from collections.abc import Iterable, Mapping, Sequence

import apsw

from contract.downlink_pb2 import Roster, RosterHub, RosterIdentity, RosterNode
from controlplane.enrolment.nodes import REMOVED, Certificate, Node, certificates, nodes


class Rosters:
    """Reads the rosters of all regions; `hub` is where nodes reach the hub."""

    def __init__(self, hub: RosterHub) -> None:
        self._hub = hub

    def read(self, connection: apsw.Connection) -> Mapping[str, Roster]:
        """The roster of each region that has a node, inside a transaction of the caller."""
        valid: dict[tuple[str, str], list[Certificate]] = {}
        for certificate in certificates(connection):
            valid.setdefault((certificate.region, certificate.node), []).append(certificate)
        of_region: dict[str, list[RosterNode]] = {}
        for node in nodes(connection):
            known = valid.get((node.region, node.name), [])
            if known or node.state == REMOVED:  # one that enrols this very moment has no certificate yet
                of_region.setdefault(node.region, []).append(_node(node, known))
        return {region: Roster(region=region, hub=self._hub, nodes=found) for region, found in of_region.items()}


def _node(node: Node, valid: Sequence[Certificate]) -> RosterNode:
    if node.state == REMOVED:
        return RosterNode(name=node.name, state=REMOVED)
    return RosterNode(name=node.name, address=node.address, state=node.state, identities=_identities(valid))


def _identities(valid: Iterable[Certificate]) -> list[RosterIdentity]:
    of_role: dict[str, RosterIdentity] = {}
    for certificate in valid:
        identity = of_role.setdefault(certificate.role, RosterIdentity(role=certificate.role))
        identity.uris.append(certificate.uri)
        identity.pins.append(certificate.pin)
    return list(of_role.values())
