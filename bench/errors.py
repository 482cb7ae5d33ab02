"""Errors of the caller's side.

BenchError
├── ScenarioError        a scenario file is wrong: names file, line and key
├── RecordingError       a recording is missing, empty or of another format
├── RegionMissingError   no local region is running
├── CarrierError         the carrier could not be started or did not do as told
└── JudgeMissingError    what judges (a recogniser, a speech corpus) is not on this machine
"""

from contract.errors import Blame, BoroughError


class BenchError(BoroughError):
    """Base of what stops a bench run."""

    code = "bench.failed"


class ScenarioError(BenchError):
    code = "bench.scenario_invalid"
    blame = Blame.OPERATOR
    hint = "bench/scenarios/README.md lists the keys."


class RecordingError(BenchError):
    code = "bench.recording_unusable"
    hint = "The carrier records with MixMonitor's S, r() and t() options as 16-bit mono WAV."


class RegionMissingError(BenchError):
    code = "bench.region_missing"
    blame = Blame.OPERATOR
    hint = "Start one with `borough up`."


class CarrierError(BenchError):
    code = "bench.carrier_failed"
    hint = "Its log is in the run's folder under .state/bench."


class JudgeMissingError(BenchError):
    code = "bench.judge_missing"
    blame = Blame.OPERATOR
    hint = "`borough models fetch` brings the models, `--speech DIR` names the recordings."
