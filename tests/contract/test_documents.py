"""Shapes of documents: what the hub and a node both refuse, and where they say it stands."""

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
    recording: {consent: opt_in, retention_days: 30}
    calling_hours: {from: "09:00", until: "18:30", days: [mon, fri]}
"""
REGION = """\
# Where the law is strict.
apiVersion: borough/v1
kind: Region
metadata: {name: eu-central}
spec: {title: Frankfurt, timezone: Europe/Berlin, jurisdictions: [gdpr], allowed_data_classes: [voice, contact]}
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
    assert governance.calling_hours is not None
    assert (governance.calling_hours.from_, governance.calling_hours.days) == ("09:00", ["mon", "fri"])
    assert region.document.spec.allowed_data_classes == ["voice", "contact"]


def test_each_document_keeps_its_own_text_and_comments() -> None:
    (tenant, region), _ = checked(f"{TENANT}---\n{REGION}")
    assert tenant.source.text == TENANT
    assert region.source.text == REGION
    assert region.source.line(("metadata",)) == len(TENANT.splitlines()) + 5


@pytest.mark.parametrize(
    ("was", "becomes", "line", "key", "says"),
    [
        ("consent: opt_in", "consent: maybe", 10, "spec.governance.recording.consent", "'opt_in', 'opt_out'"),
        ("jurisdictions: [gdpr]", "jurisdictions: [hipaa]", 8, "spec.governance.jurisdictions.0", "'gdpr'"),
        ("retention_days: 30", "retention_days: -1", 10, "spec.governance.recording.retention_days", "greater"),
        ('from: "09:00"', 'from: "19:00"', 11, "spec.governance.calling_hours", "`from` must be before `until`"),
        ('from: "09:00"', 'form: "09:00"', 11, "spec.governance.calling_hours.form", "did you mean 'from'?"),
        ("regions: [eu-central]", "regions: [eu_central]", 7, "spec.governance.regions.0", "pattern"),
    ],
)
def test_a_mistake_names_line_key_and_what_is_allowed(was: str, becomes: str, line: int, key: str, says: str) -> None:
    _, problems = checked(TENANT.replace(was, becomes))
    assert (problems[0].line, problems[0].key) == (line, key)
    assert says in str(problems[0])


def test_names_that_lead_nowhere_are_found_without_a_file() -> None:
    agent = """\
apiVersion: borough/v1
kind: Flow
metadata: {name: order}
spec: {title: order, steps: [{ask: {slot: ordr, prompt: Which?}}], slots: {order: {kind: text}}}
"""
    documents, problems = checked(f"{TENANT}---\n{agent}")
    assert problems == []
    assert "did you mean 'order'?" in str(reference_problems(documents)[0])


def test_a_second_document_of_the_same_name_is_refused() -> None:
    documents, _ = checked(f"{TENANT}---\n{TENANT}")
    assert "a second Tenant named 'shop'" in str(reference_problems(documents)[0])
