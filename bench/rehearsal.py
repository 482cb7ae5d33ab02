"""The trunk of a rehearsed region (`borough machines`): calls go to its virtual address, as a carrier's do."""

from bench.target import CarrierPlace, NodeProcesses, Trunk, numbers_of
from provisioning.local.layout import EXAMPLE_TENANTS, StateLayout
from provisioning.machines.plan import MachinesPlan

SIP_PORT = 5060
RTP_FIRST, RTP_LAST = 18_000, 19_999


def rehearsal_trunk(state: StateLayout, plan: MachinesPlan) -> Trunk:
    """The region's trunk, with the carrier at this machine's address on the bridge."""
    return Trunk(
        state=state,
        sip=(plan.virtual_address, SIP_PORT),
        numbers=numbers_of(EXAMPLE_TENANTS),
        carrier=CarrierPlace(
            host=plan.gateway,
            sip_port=SIP_PORT,
            rtp_first=RTP_FIRST,
            rtp_last=RTP_LAST,
            directory=state.run / "carrier",
            humans_from=tuple(node.address for node in plan.region_nodes),
        ),
        processes=NodeProcesses(asterisk=None, inference=None, calls=()),
    )
