"""Applying documents on a real database: all or nothing, every refusal names where and what."""

import pytest

from controlplane.audit import AuditLog
from controlplane.database import HubDatabase
from controlplane.documents.application import Documents
from controlplane.documents.catalogue import Catalogue
from controlplane.documents.model import ChangeKind, DocumentKey
from controlplane.errors import DocumentNotFoundError, DocumentsRefusedError
from tests.controlplane.conftest import ADA
from tests.controlplane.estate_files import AGENT, REGIONS, edited, everything, regions, source, tenant

LINE = DocumentKey(kind="Agent", tenant="bank", name="line")


async def test_documents_are_stored_and_every_region_gets_a_bundle(documents: Documents) -> None:
    outcome = await documents.apply(everything(), ADA)
    assert {change.kind for change in outcome.changes} == {ChangeKind.CREATED}
    assert {(bundle.region, bundle.version) for bundle in outcome.bundles} == {("eu-central", 1), ("in-south", 1)}
    assert len(await documents.current("", "")) == 10
    assert [stored.key.name for stored in await documents.current("Tenant", "")] == ["bank", "shop"]


async def test_the_same_again_changes_nothing(documents: Documents) -> None:
    await documents.apply(everything(), ADA)
    outcome = await documents.apply(everything(), ADA)
    assert {change.kind for change in outcome.changes} == {ChangeKind.UNCHANGED}
    assert outcome.bundles == ()


async def test_only_regions_whose_documents_change_get_a_new_version(documents: Documents) -> None:
    await documents.apply(everything(), ADA)
    changed = edited(everything(), "shop/agent.yaml", "Hello from shop.", "Welcome.")
    outcome = await documents.apply(changed, ADA)
    assert [(bundle.region, bundle.version) for bundle in outcome.bundles] == [("in-south", 2)]
    (change,) = [change for change in outcome.changes if change.kind is ChangeKind.UPDATED]
    assert change.revision == 2
    assert "-  greeting: Hello from shop.\n+  greeting: Welcome.\n" in change.diff


async def test_a_dry_run_tells_all_and_stores_nothing(documents: Documents, database: HubDatabase) -> None:
    outcome = await documents.apply(everything(), ADA, dry_run=True)
    assert len(outcome.changes) == 10
    assert "+  title: Frankfurt\n" in outcome.changes[0].diff
    assert {bundle.version for bundle in outcome.bundles} == {1}
    assert await documents.current("", "") == []
    assert (await AuditLog(database).verify()).entries == 0


@pytest.mark.parametrize(
    ("path", "old", "new", "says"),
    [
        ("bank/agent.yaml", "  greeting", "  greting", "bank/agent.yaml:5: spec.greting: is not a known key"),
        ("bank/agent.yaml", "policy: careful", "policy: carefull", "did you mean 'careful'?"),
        ("bank/agent.yaml", "flow: order", "flow: ordre", "bank/agent.yaml:18: spec.intents.track.flow"),
        ("bank/agent.yaml", "tenant: bank", "tenant: bonk", "there is no Tenant named 'bonk' (did you mean 'bank'?)"),
        ("bank/flows.yaml", "slot: order", "slot: ordre", "bank/flows.yaml:8: spec.steps.0.ask.slot"),
        ("bank/tenant.yaml", "eu-central,", "eu-centrl,", "did you mean 'eu-central'?"),
        ("bank/tenant.yaml", "[voice]", "[voice, payment]", "rule spec.allowed_data_classes in regions.yaml:9"),
        ("regions.yaml", "Asia/Kolkata", "Asia/Kolkatta", "regions.yaml:14: spec.timezone"),
        ("regions.yaml", "[gdpr]", "[hipaa]", "bank/tenant.yaml:6: spec.governance.jurisdictions"),
        ("bank/tenant.yaml", "opt_in", "none", "gdpr.recording.consent"),
        ("shop/agent.yaml", "+15550200", "+15550100", "+15550100 is already answered by Agent/bank/line in region"),
        ("regions.yaml", "Europe/Berlin", "Europe/Berln", "regions.yaml:7: spec.timezone"),
        ("regions.yaml", "country: DE", "country: Germany", "regions.yaml:6: spec.country"),
        ("bank/tenant.yaml", "kind: Policy", "kind: Polcy", "did you mean 'Policy'?"),
        ("bank/flows.yaml", "spec:", "spec: [", "bank/flows.yaml"),
    ],
)
async def test_a_mistake_is_named_and_nothing_is_stored(
    documents: Documents, path: str, old: str, new: str, says: str
) -> None:
    with pytest.raises(DocumentsRefusedError) as refused:
        await documents.apply(edited(everything(), path, old, new), ADA)
    assert says in str(refused.value)
    assert await documents.current("", "") == []


async def test_a_mistake_can_be_in_what_is_stored(documents: Documents) -> None:
    await documents.apply(everything(), ADA)
    strict = REGIONS.replace("[voice, contact]", "[contact]")
    with pytest.raises(DocumentsRefusedError, match=r"stored:Tenant/bank:\d+: spec.governance.data_classes.0"):
        await documents.apply([source("regions.yaml", strict)], ADA)


async def test_a_document_without_a_tenant_is_refused(documents: Documents) -> None:
    agent = AGENT.replace(", tenant: TENANT", "").replace("NUMBER", "+15550100")
    with pytest.raises(DocumentsRefusedError, match="names no tenant"):
        await documents.apply([source("agent.yaml", agent)], ADA)


async def test_many_problems_fit_into_a_status(documents: Documents) -> None:
    broken = "".join(f"---\napiVersion: borough/v1\nkind: Nonsense{n}\n" for n in range(100))
    with pytest.raises(DocumentsRefusedError, match="and 75 more"):
        await documents.apply([source("many.yaml", broken)], ADA)


async def test_prune_deletes_only_what_the_tenants_of_the_request_lost(documents: Documents) -> None:
    await documents.apply(everything(), ADA)
    bank = edited(tenant("bank", "+15550100", "eu-central"), "bank/agent.yaml", "policy: careful", "language: en")
    head = source("bank/tenant.yaml", bank[0].content.decode().split("---\n")[0])
    outcome = await documents.apply([head, *bank[1:]], ADA, prune=True)
    deleted = [str(change.key) for change in outcome.changes if change.kind is ChangeKind.DELETED]
    assert deleted == ["Policy/bank/careful"]
    assert len(await documents.current("", "shop")) == 4


async def test_pruning_what_is_needed_is_refused(documents: Documents) -> None:
    await documents.apply(everything(), ADA)
    bank = tenant("bank", "+15550100", "eu-central")
    with pytest.raises(DocumentsRefusedError, match="there is no flow"):
        await documents.apply([bank[0], bank[2]], ADA, prune=True)


async def test_rollback_makes_a_new_revision_of_the_earlier_text(documents: Documents) -> None:
    await documents.apply(everything(), ADA)
    await documents.apply(edited(everything(), "bank/agent.yaml", "Hello from bank.", "Welcome."), ADA)
    outcome = await documents.rollback(LINE, 0, ADA)
    assert outcome.changes[0].revision == 3
    assert {(bundle.region, bundle.version) for bundle in outcome.bundles} == {("eu-central", 3), ("in-south", 3)}
    newest, before, first = await documents.history(LINE)
    assert (newest.yaml, newest.yaml != before.yaml) == (first.yaml, True)
    assert (await documents.revision(LINE, 2)).yaml == before.yaml


async def test_a_deleted_document_comes_back_by_rollback_with_a_higher_revision(documents: Documents) -> None:
    await documents.apply(everything(), ADA)
    await documents.delete(LINE, ADA)
    with pytest.raises(DocumentNotFoundError):
        await documents.revision(LINE, 0)
    await documents.rollback(LINE, 1, ADA)
    assert (await documents.revision(LINE, 0)).revision == 3


async def test_what_another_document_needs_cannot_be_deleted(documents: Documents) -> None:
    await documents.apply(everything(), ADA)
    for kind, name, key_tenant in (("Flow", "order", "bank"), ("Tenant", "bank", "bank"), ("Region", "in-south", "")):
        with pytest.raises(DocumentsRefusedError):
            await documents.delete(DocumentKey(kind=kind, tenant=key_tenant, name=name), ADA)


async def test_what_is_not_there_cannot_be_deleted_or_rolled_back(documents: Documents) -> None:
    with pytest.raises(DocumentNotFoundError):
        await documents.delete(LINE, ADA)
    await documents.apply(everything(), ADA)
    with pytest.raises(DocumentNotFoundError, match="no earlier revision"):
        await documents.rollback(LINE, 0, ADA)


async def test_every_change_is_audited_with_its_revision(documents: Documents, database: HubDatabase) -> None:
    await documents.apply(everything(), ADA)
    await documents.delete(LINE, ADA)
    entries = await AuditLog(database).newest(100)
    assert (entries[0].actor, entries[0].role) == ("ada", "operator")
    assert (entries[0].action, entries[0].target) == ("documents.delete", "Agent/bank/line@2 deleted")
    assert len(entries) == 11


async def test_a_tenant_without_a_region_is_only_warned_of(documents: Documents) -> None:
    files = edited(tenant("bank", "+15550100"), "bank/tenant.yaml", "regions: []", "regions: []")
    outcome = await documents.apply(files, ADA)
    assert "hub.no_region" in {finding.rule for finding in outcome.findings}
    assert outcome.bundles == ()


async def test_lint_judges_a_stored_tenant(documents: Documents) -> None:
    await documents.apply(everything(), ADA)
    own = {finding.rule.partition(".")[0] for finding in await documents.lint("shop", is_strictest=False)}
    strict = {finding.rule for finding in await documents.lint("shop", is_strictest=True)}
    assert own == {"dpdp"}
    assert any(rule.startswith("gdpr") for rule in strict)
    with pytest.raises(DocumentNotFoundError):
        await documents.lint("nobody", is_strictest=False)


async def test_the_catalogue_knows_places_and_every_name_that_was_given(
    documents: Documents, database: HubDatabase
) -> None:
    catalogue = Catalogue(database)
    await documents.apply(everything(), ADA)
    await catalogue.refresh()
    assert catalogue.regions() == ("eu-central", "in-south")
    assert catalogue.regions_of("bank") == ("eu-central", "in-south")
    assert catalogue.tenants_in("in-south") == ("bank", "shop")
    assert catalogue.regions_of("nobody") == ()
    await documents.delete(LINE, ADA)
    await documents.apply(edited(everything(), "bank/agent.yaml", "track:", "follow:"), ADA)
    await catalogue.refresh()
    assert catalogue.tenants("in-south") == {"bank", "shop"}
    assert catalogue.agents("bank") == {"line"}
    assert catalogue.intents("bank", "line") == {"track", "follow", "human"}
    assert catalogue.reasons("bank") == {"fraud", "order_question", "wants_person"}
    assert catalogue.newest_bundle("in-south") == 3


async def test_regions_alone_are_enough_for_a_bundle(documents: Documents) -> None:
    outcome = await documents.apply(regions(), ADA)
    assert len(outcome.bundles) == 2
