"""Shapes of documents: what the hub and a node both refuse, and where they say it stands."""

from datetime import time
from pathlib import PurePath

import pytest

from contract.documents import RegionDocument, TenantDocument
from contract.documents_references import reference_problems
from contract.documents_shape import CheckedDocument, check_shape
from contract.documents_source import DocumentProblem, read_documents

FILE = PurePath("shop/tenant.yaml")
TENANT = """\
apiVersion: borough/v1
kind: Tenant
metadata: {name: shop}
spec:
  title: Shop
  governance:
    regions: [eu-central]
    jurisdictions: [gdpr]
    data_classes: [payment, voice]
    recording: {consent: opt_in}
    retention: {transcripts: 90, recordings: 30}
    outbound: {consent: express, hours: {from: "09:00", until: "18:30"}}
"""
REGION = """\
# Where the law is strict.
apiVersion: borough/v1
kind: Region
metadata: {name: eu-central}
spec:
  title: Frankfurt
  country: DE
  timezone: Europe/Berlin
  jurisdictions: [gdpr]
  allowed_data_classes: [voice, contact]
"""


def checked(text: str) -> tuple[list[CheckedDocument], list[DocumentProblem]]:
    sources, problems = read_documents(FILE, text.encode())
    found: list[CheckedDocument] = []
    for source in sources:
        document, more = check_shape(source)
        problems += more
        if document is not None:
            found.append(CheckedDocument(source=source, document=document))
    return found, problems


def test_governance_and_regions_are_read() -> None:
    (tenant, region), problems = checked(f"{TENANT}---\n{REGION}")
    assert problems == []
    assert isinstance(tenant.document, TenantDocument)
    assert isinstance(region.document, RegionDocument)
    governance = tenant.document.spec.governance
    assert governance is not None
    assert governance.outbound is not None
    assert governance.outbound.hours is not None
    assert governance.outbound.hours.from_ == time(9)
    assert governance.retention.recordings == 30
    assert governance.rights.erasure is None
    assert region.document.spec.allowed_data_classes == ["voice", "contact"]


def test_each_document_keeps_its_own_text_and_comments() -> None:
    (tenant, region), _ = checked(f"{TENANT}---\n{REGION}")
    assert tenant.source.text == TENANT
    assert region.source.text == REGION
    assert region.source.line(("metadata",)) == len(TENANT.splitlines()) + 5


@pytest.mark.parametrize(
    ("was", "becomes", "line", "key", "says"),
    [
        ("consent: opt_in", "consent: maybe", 10, "spec.governance.recording.consent", "'notice' or 'opt_in'"),
        ("data_classes: [p", "data_classes: [P", 9, "spec.governance.data_classes.0", "pattern"),
        ("recordings: 30", "recordings: -1", 11, "spec.governance.retention.recordings", "greater"),
        ('from: "09:00"', 'from: "19:00"', 12, "spec.governance.outbound.hours", "`from` must be before `until`"),
        ('from: "09:00"', 'from: "9 am"', 12, "spec.governance.outbound.hours.from", "time"),
        ('from: "09:00"', 'form: "09:00"', 12, "spec.governance.outbound.hours.form", "did you mean 'from'?"),
        ("{name: shop}", "{name: customer-1234567}", 3, "metadata.name", "at most 6 digits"),
        ("regions: [eu-central]", "regions: [eu-1234567]", 7, "spec.governance.regions.0", "at most 6 digits"),
        ("regions: [eu-central]", "regions: [eu_central]", 7, "spec.governance.regions.0", "pattern"),
    ],
)
def test_a_mistake_names_line_key_and_what_is_allowed(was: str, becomes: str, line: int, key: str, says: str) -> None:
    _, problems = checked(TENANT.replace(was, becomes))
    (problem,) = [found for found in problems if found.key == key]
    assert problem.line == line
    assert says in str(problem)


def test_names_of_intents_are_names_that_may_travel() -> None:
    """Intents are keys of a mapping; what an item of knowledge is called stays in the region."""
    agent = """\
apiVersion: borough/v1
kind: Agent
metadata: {name: line, tenant: shop}
spec:
  greeting: Hello
  intents:
    order-1234567: {examples: [I want to order], item: article-12345678}
"""
    _, problems = checked(agent)
    about = [problem for problem in problems if "digits" in str(problem)]
    assert [problem.line for problem in about] == [7]
    assert "at most 6 digits" in str(about[0])


def test_texts_are_cut_right_behind_letters_of_many_bytes() -> None:
    (tenant, region), problems = checked(TENANT.replace("title: Shop", "title: Bücher — 本屋") + "---\n" + REGION)
    assert problems == []
    assert "title: Bücher — 本屋\n" in tenant.source.text
    assert region.source.text == REGION


def test_names_that_lead_nowhere_are_found_without_a_file() -> None:
    agent = """\
apiVersion: borough/v1
kind: Flow
metadata: {name: order}
spec: {title: order, steps: [{ask: {slot: ordr, prompt: Which one}}], slots: {order: {kind: text}}}
"""
    documents, problems = checked(f"{TENANT}---\n{agent}")
    assert problems == []
    assert "did you mean 'order'?" in str(reference_problems(documents)[0])


def test_a_second_document_of_the_same_name_is_refused() -> None:
    documents, _ = checked(f"{TENANT}---\n{TENANT}")
    assert "a second Tenant named 'shop'" in str(reference_problems(documents)[0])


def test_yaml_surprises_are_read_as_they_were_meant() -> None:
    text = TENANT.replace('"18:30"', "18:30") + "---\n" + REGION.replace("country: DE", "country: NO")
    (tenant, region), problems = checked(text)
    assert problems == []
    assert isinstance(tenant.document, TenantDocument)
    assert isinstance(region.document, RegionDocument)
    assert tenant.document.spec.governance is not None
    assert tenant.document.spec.governance.outbound is not None
    assert tenant.document.spec.governance.outbound.hours is not None
    assert tenant.document.spec.governance.outbound.hours.until == time(18, 30)
    assert region.document.spec.country == "NO"
