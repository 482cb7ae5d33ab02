"""Errors of drills.

DrillError
├── DrillRefusedError      a guard said no: nothing was touched
├── DrillImpossibleError   this kind cannot be run in this region
├── DrillHandError         something could not be done to a node, or it did not answer
├── DrillUndoError         something that was taken away could not be put back
└── DrillReportError       a kept report cannot be read
"""

from bench.errors import BenchError
from contract.errors import Blame


class DrillError(BenchError):
    """Base of what stops a drill."""

    code = "drill.failed"


class DrillRefusedError(DrillError):
    code = "drill.refused"
    blame = Blame.OPERATOR
    hint = "Nothing was touched. docs/drills.md lists the guards; mend what the message names and run it again."


class DrillImpossibleError(DrillError):
    code = "drill.impossible"
    blame = Blame.OPERATOR
    hint = "docs/drills.md says which kind needs which region."


class DrillHandError(DrillError):
    code = "drill.hand"
    blame = Blame.REMOTE
    hint = "Whatever had been done was put back; see whether the machine that the message names can be reached."


class DrillUndoError(DrillError):
    code = "drill.not_put_back"
    blame = Blame.REMOTE
    hint = "It ends by itself within minutes (docs/drills.md, Guards); look at the machine before the next drill."


class DrillReportError(DrillError):
    code = "drill.report_unreadable"
    blame = Blame.OPERATOR
    hint = "Move the folder that the message names away; the others can be read."
