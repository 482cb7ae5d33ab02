"""Errors of the local region.

LocalRegionError
├── ServiceStartError     a process ended or was not ready in time
├── NotRunningError       `borough up` has not been run
├── AlreadyRunningError   another local region uses this state folder
├── RegionPlanError       `--regions` cannot be read
├── ServiceUnknownError   no service has this name
└── SeedError             the example tenants could not be applied
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


class RegionPlanError(LocalRegionError):
    code = "local.region_plan"
    blame = Blame.OPERATOR
    hint = "Give --regions as NAME:NODES, separated by commas: in-south:2,eu-central:1."


class ServiceUnknownError(LocalRegionError):
    code = "local.service_unknown"
    blame = Blame.OPERATOR
    hint = "`borough service list` shows the names."


class SeedError(LocalRegionError):
    code = "local.seed"
    blame = Blame.OPERATOR
    hint = "Mend the tenant documents that the message names, then `borough apply -f` them."
