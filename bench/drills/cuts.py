"""Shell scripts that take something away from a machine for a while, and put it back. Pure text.

Each one first starts a dead man's switch: a transient timer of the machine's own systemd, which puts everything back
even when nobody can reach the machine any more. To put back what is there is no error.
"""

import shlex
from collections.abc import Sequence

from bench.drills.kinds import PartitionShape

TABLE = "borough_drill"
SWITCH = "drill-undo"
BALLAST = "/var/lib/borough/drill.ballast"
# Less than what makes a node call its disk full, more than what its services need to say so.
LEFT_BYTES = 8 * 1024 * 1024
NATS_PORTS = "{ 4222, 6222, 6223, 7422 }"
NOW = "date +%s.%N"
# As at a boot. Nobody waits for models to load, or for a self-test that is tried again.
START_ALL = "systemctl start --no-block borough.target kamailio keepalived"
START_HUB = "systemctl start --no-block borough.target"
HEAL = f"nft delete table inet {TABLE} 2>/dev/null || true"
# Without them SSH over IPv6 ends, too.
_NEIGHBOURS = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept"
EMPTY = f"rm -f {BALLAST}"
_RECORDS = str(BALLAST).rpartition("/")[0]
_IS_SHARED = f'systemd-detect-virt -q --container && [ "$(stat -c %d {_RECORDS})" = "$(stat -c %d /)" ]'
# Prints something where the records lie on a disk that others need, too.
SHARES_DISK = f"if {_IS_SHARED}; then echo shared; fi"


def cut(shape: PartitionShape, peers: Sequence[str], ends_after_s: float) -> str:
    """Cut a machine off from `peers` (addresses of its siblings, of the hub, and the region's)."""
    return f"{switch(HEAL, ends_after_s)}\n{NOW}\nnft -f - <<'RULES'\n{rules(shape, peers)}RULES\n"


def rules(shape: PartitionShape, peers: Sequence[str]) -> str:
    """A table of our own, before the firewall's; SSH and what stays on the machine go on."""
    chains = {"in": ("prerouting", "saddr")}
    if shape is not PartitionShape.ONE_WAY:
        chains["out"] = ("output", "daddr")
    what = [f"tcp dport {NATS_PORTS} ", f"tcp sport {NATS_PORTS} "] if shape is PartitionShape.NATS else [""]
    text = f"table inet {TABLE} {{\n"
    for name, (hook, side) in chains.items():
        text += f"    chain {name} {{\n        type filter hook {hook} priority -350; policy accept;\n"
        text += f"        meta {'iif' if name == 'in' else 'oif'}name lo accept\n        tcp dport 22 accept\n"
        text += "        tcp sport 22 accept\n"
        for family in ("ip", "ip6"):
            own = [peer for peer in peers if (":" in peer) == (family == "ip6")]
            if own:
                text += "".join(f"        {family} {side} {{ {', '.join(own)} }} {one}drop\n" for one in what)
        text += "    }\n"
    return text + "}\n"


def power_off(ends_after_s: float) -> str:
    """As near to a power cut as one comes from inside: nothing leaves the machine any more, then all is killed."""
    silent = (
        f"table inet {TABLE} {{\n"
        "    chain out {\n        type filter hook output priority -350; policy drop;\n"
        f"        oifname lo accept\n        tcp sport 22 accept\n        {_NEIGHBOURS}\n    }}\n"
        "    chain in {\n        type filter hook prerouting priority -350; policy drop;\n"
        f"        iifname lo accept\n        tcp dport 22 accept\n        {_NEIGHBOURS}\n    }}\n}}\n"
    )
    return (
        f"{switch(f'{HEAL}; {START_ALL}', ends_after_s)}\n{NOW}\nnft -f - <<'RULES'\n{silent}RULES\n"
        "systemctl kill -s KILL 'borough-*.service' kamailio.service || true\n"
        "systemctl stop borough.target kamailio keepalived || true\n"
    )


def hub_off(ends_after_s: float) -> str:
    """Kill everything of the hub, and keep it from coming back."""
    return (
        f"{switch(START_HUB, ends_after_s)}\n{NOW}\n"
        "systemctl kill -s KILL 'borough-*.service' || true\nsystemctl stop borough.target\n"
    )


def kill(unit: str) -> str:
    """`kill -9` of all processes of a unit; systemd starts it again."""
    return f"{NOW}\nsystemctl kill -s KILL {shlex.quote(unit)}\n"


def fill(ends_after_s: float) -> str:
    """Take the room on the disk of the records; refuses where that is the disk of others, too."""
    return (
        f"if {_IS_SHARED}; then\n"
        '    echo "the records share their disk with the machine that this one is in" >&2; exit 1\nfi\n'
        f"{switch(EMPTY, ends_after_s)}\n{NOW}\n"
        f"room=$(df --output=avail -B1 {_RECORDS} | tail -1)\n"
        f"fallocate -l $((room - {LEFT_BYTES})) {BALLAST}\n"
    )


def switch(undo: str, after_s: float) -> str:
    """Start the dead man's switch."""
    words = f"--quiet --collect --unit={SWITCH} --on-active={after_s:.0f} --timer-property=AccuracySec=1s"
    return f"{disarm()}\nsystemd-run {words} /bin/sh -c {shlex.quote(undo)}"


def disarm() -> str:
    """Stop the switch."""
    commands = (f"systemctl stop {SWITCH}.timer", f"systemctl reset-failed {SWITCH}.service")
    return "; ".join(f"{command} 2>/dev/null || true" for command in commands)


def put_back(undo: str) -> str:
    """Undo something now; the switch is stopped once that is done."""
    return f"{undo}\n{disarm()}\n"
