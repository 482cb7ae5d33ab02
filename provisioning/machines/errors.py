"""Errors of the machines of a rehearsal.

MachinesError
├── MachineUnableError    this machine cannot run machines inside
├── MachineStartError     a machine did not boot, or nobody answers on it
├── MachineUnknownError   no machine has this name
├── MachineCommandError   a command on a machine failed
└── MachinePlayError      a playbook failed on machines
"""

from contract.errors import Blame, BoroughError


class MachinesError(BoroughError):
    """Base of what can go wrong with machines inside this one."""


class MachineUnableError(MachinesError):
    code = "machines.unable"
    blame = Blame.OPERATOR
    hint = "Run it as root on a Debian machine with systemd-container and iproute2 installed."


class MachineStartError(MachinesError):
    code = "machines.start"
    blame = Blame.OPERATOR
    hint = "Read the console that the message names; `borough machines down` clears what is left."


class MachineUnknownError(MachinesError):
    code = "machines.unknown"
    blame = Blame.OPERATOR
    hint = "`borough machines list` shows the names."


class MachineCommandError(MachinesError):
    code = "machines.command"
    blame = Blame.OPERATOR
    hint = "`borough machines ssh NAME` opens a shell on the machine."


class MachinePlayError(MachinesError):
    code = "machines.play"
    blame = Blame.OPERATOR
    hint = "The failed task says what to do; machines/plays.log in the state folder has all of it."
