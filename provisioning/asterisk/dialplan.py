"""The two dialplans, as text.

Node: a call is offered, unanswered, to the workers' Stasis apps, beginning with another one each time. Coming back from
Stasis means that the worker did not take the call: it is not running (STASISSTATUS=FAILED), or it is full and said
`continue`. Then the next one is asked; when none takes it the caller gets cause 34, which PJSIP sends as 503.

Carrier: see CarrierDialplan and images/asterisk/README.md.
"""

from provisioning.asterisk.settings import (
    BUSY_NUMBER,
    ECHO_NUMBER,
    NO_ANSWER_NUMBER,
    UNALLOCATED_NUMBER,
    CarrierDialplan,
    NodeDialplan,
)

# Numbers and names; SIP users of other characters are refused as unallocated. A name has two letters at least: `h`, `i`
# and `t` are extensions that Asterisk itself runs, `h` after every call.
_ANY_NUMBER = ("_[+0-9*#]!", "_[A-Za-z][-+.0-9A-Za-z]!")


def node_dialplan(dialplan: NodeDialplan) -> str:
    """extensions.conf of a node."""
    apps = dialplan.stasis_apps
    count = len(apps)
    lines = ["[general]", "static = yes", "writeprotect = yes", "clearglobalvars = no", "", "[globals]", "TURN = 0"]
    lines += [f"APP_{index} = {app}" for index, app in enumerate(apps)]
    lines += [
        "",
        "[incoming]",
        *(line for pattern in _ANY_NUMBER for line in _offer(pattern, count)),
        "",
    ]
    return "\n".join(lines)


def _offer(pattern: str, count: int) -> list[str]:
    return [
        f"exten = {pattern},1,Set(GLOBAL(TURN)=$[(${{GLOBAL(TURN)}} + 1) % {count}])",
        " same = n,Set(offered=${GLOBAL(TURN)})",
        " same = n,Set(refusals=0)",
        # The called number is in the event's dialplan.exten; as an argument a comma in it would add arguments.
        " same = n(next),Stasis(${APP_${offered}},inbound)",
        ' same = n,GotoIf($["${CHANNEL(state)}" = "Up"]?over)',
        f" same = n,Set(offered=$[(${{offered}} + 1) % {count}])",
        " same = n,Set(refusals=$[${refusals} + 1])",
        f" same = n,GotoIf($[${{refusals}} < {count}]?next)",
        " same = n,Hangup(34)",
        " same = n(over),Hangup(16)",
    ]


def carrier_dialplan(dialplan: CarrierDialplan) -> str:
    """extensions.conf of a carrier."""
    return "\n".join(
        [
            "[general]",
            "static = yes",
            "writeprotect = yes",
            "",
            # An originated, answered call. r: what this caller hears, t: what this caller says, S: kept in step.
            "[caller]",
            "exten = recorded,1,MixMonitor(${MIX_FILE},S${MIX_OPTIONS}r(${HEARD_FILE})t(${SPOKEN_FILE}))",
            f" same = n,Stasis({dialplan.caller_app},${{CALLER_ARGUMENT}})",
            " same = n,Hangup(16)",
            f"exten = plain,1,Stasis({dialplan.caller_app},${{CALLER_ARGUMENT}})",
            " same = n,Hangup(16)",
            "exten = echo,1,Echo()",
            "exten = tone,1,Milliwatt()",
            "exten = digits,1,Wait(0.3)",
            " same = n,SendDTMF(${DIGITS},100,100)",
            " same = n,Wait(30)",
            "",
            # What the node dials.
            "[incoming]",
            f"exten = {BUSY_NUMBER},1,Hangup(17)",
            f"exten = {UNALLOCATED_NUMBER},1,Hangup(1)",
            f"exten = {NO_ANSWER_NUMBER},1,Ringing()",
            " same = n,Wait(120)",
            f"exten = {ECHO_NUMBER},1,Answer()",
            " same = n,Echo()",
            *(
                line
                for pattern in _ANY_NUMBER
                for line in (f"exten = {pattern},1,Stasis({dialplan.human_app},human)", " same = n,Hangup(20)")
            ),
            "",
        ]
    )
