"""Asks the hub who belongs to the region now, past the region itself.

Rosters come with bundles, and bundles through the region's JetStream, which needs most of its servers to know each
other: nodes that joined at once, or were rebuilt together, would wait for each other's names for ever.
"""

from provisioning.node.description import NodeDescription
from provisioning.node.enrolment.enroll import HubAddress
from provisioning.node.enrolment.hub import enrolment_hub
from provisioning.node.inputs import Inputs
from provisioning.node.roster import parse_roster, topology_of


async def ask_roster(node: NodeDescription, inputs: Inputs) -> bool:
    """Keep the hub's roster if it is newer than what is here; whether it was. Raises EnrolmentError, RosterError."""
    folder = inputs.identity()
    hub = HubAddress(host=node.hub.address, port=node.hub.renewal_port)
    async with enrolment_hub(str(hub), folder.authority.read_bytes(), folder) as connection:
        answer = await connection.members()
    topology_of(node, parse_roster(answer.roster, node.region))
    if answer.bundle_version <= max(inputs.roster_version(), inputs.bundle_version()):
        return False
    folder.save_roster(answer.roster, answer.bundle_version)
    return True
