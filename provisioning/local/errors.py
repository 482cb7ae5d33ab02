"""Errors of the local region.

LocalRegionError
├── ServiceStartError     a process ended or was not ready in time
├── NotRunningError       `borough up` has not been run
└── AlreadyRunningError   another local region uses this state folder
"""

from contract.errors import Blame, BoroughError


class LocalRegionError(BoroughError):
    """Base of what can go wrong with a region on one machine."""


class ServiceStartError(LocalRegionError):
    code = "local.service_start"
    blame = Blame.OPERATOR
    hint = "`borough doctor` checks what a service needs."


class NotRunningError(LocalRegionError):
    code = "local.not_running"
    blame = Blame.OPERATOR
    hint = "Start it with `borough up`."


class AlreadyRunningError(LocalRegionError):
    code = "local.already_running"
    blame = Blame.OPERATOR
    hint = "Stop it with `borough down`."
