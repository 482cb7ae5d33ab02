"""Documents for tests: two regions, a bank in both, a shop in one."""

from pathlib import PurePath

from controlplane.documents.reading import SourceFile

REGIONS = """\
apiVersion: borough/v1
kind: Region
metadata: {name: eu-central}
spec:
  title: Frankfurt
  country: DE
  timezone: Europe/Berlin
  jurisdictions: [gdpr]
  allowed_data_classes: [voice, contact]
---
apiVersion: borough/v1
kind: Region
metadata: {name: in-south}
spec: {title: Chennai, country: IN, timezone: Asia/Kolkata, jurisdictions: [dpdp]}
"""

TENANT = """\
apiVersion: borough/v1
kind: Tenant
metadata: {name: TENANT}
spec:
  title: The TENANT
  governance:
    regions: [REGIONS]
    data_classes: [voice]
    recording: {consent: opt_in}
---
apiVersion: borough/v1
kind: Policy
metadata: {name: careful}
spec: {misunderstandings: 2, sensitive: {fraud: [scam]}}
"""

FLOW = """\
apiVersion: borough/v1
kind: Flow
metadata: {name: order}
spec:
  title: order
  slots: {order: {kind: digits, digits: 6}}
  steps:
    - ask: {slot: order, prompt: Your order number please.}
    - hand_over: {reason: order_question, text: One moment.}
"""

AGENT = """\
apiVersion: borough/v1
kind: Agent
metadata: {name: line, tenant: TENANT}
spec:
  greeting: Hello from TENANT.
  human: sip:desk@shop.local
  numbers: ["NUMBER"]
  policy: careful
  knowledge: [{name: branch}]
  phrases:
    not_known: I don't know.
    not_understood: Pardon?
    transfer_failed: {busy: Busy., no_answer: Nobody., unreachable: Nobody.}
    no_input: Hello?
    silence_goodbye: Bye.
    goodbye: Bye.
  intents:
    track: {flow: order, examples: [where is my order]}
    human: {escalate: wants_person, examples: [a person please]}
"""


def source(path: str, text: str) -> SourceFile:
    """A file with this content."""
    return SourceFile(path=PurePath(path), content=text.encode())


def regions() -> list[SourceFile]:
    return [source("regions.yaml", REGIONS)]


def tenant(name: str, number: str, *in_regions: str) -> list[SourceFile]:
    """All documents of a tenant."""
    head = TENANT.replace("TENANT", name).replace("REGIONS", ", ".join(in_regions))
    agent = AGENT.replace("TENANT", name).replace("NUMBER", number)
    return [
        source(f"{name}/tenant.yaml", head),
        source(f"{name}/flows.yaml", FLOW),
        source(f"{name}/agent.yaml", agent),
    ]


def everything() -> list[SourceFile]:
    return [
        *regions(),
        *tenant("bank", "+15550100", "eu-central", "in-south"),
        *tenant("shop", "+15550200", "in-south"),
    ]


def edited(files: list[SourceFile], path: str, old: str, new: str) -> list[SourceFile]:
    """The files with one text replaced in one of them."""
    assert any(file.path == PurePath(path) and old.encode() in file.content for file in files)
    return [
        SourceFile(path=file.path, content=file.content.replace(old.encode(), new.encode()))
        if file.path == PurePath(path)
        else file
        for file in files
    ]
