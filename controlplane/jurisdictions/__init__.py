"""What privacy and telephone laws ask of a tenant, as data, and where its configuration is looser than that.

Not legal advice: README.md says who must review the packs.
"""

from controlplane.jurisdictions.facts import GovernanceFacts, RegionFacts
from controlplane.jurisdictions.lint import Finding, Severity, lint
from controlplane.jurisdictions.packs import load_packs
from controlplane.jurisdictions.rules import Pack, Rule, RuleKind
from controlplane.jurisdictions.strictest import strictest

__all__ = [
    "Finding",
    "GovernanceFacts",
    "Pack",
    "RegionFacts",
    "Rule",
    "RuleKind",
    "Severity",
    "lint",
    "load_packs",
    "strictest",
]
