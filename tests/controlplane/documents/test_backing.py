"""Regions back each other where the packs of both allow it, and then for tenants that may; refusals name the rule."""

from pathlib import PurePath

import pytest
import zstandard

from contract.downlink_pb2 import Bundle
from controlplane.bundles.compiling import compile_regions
from controlplane.database import HubDatabase
from controlplane.documents.application import Documents
from controlplane.documents.backing import DATA_CLASSES, NOT_ASKED, NUMBER_TAKEN, PackBacking
from controlplane.documents.catalogue import Catalogue
from controlplane.documents.estate import Estate
from controlplane.documents.reading import SourceFile, read_files
from controlplane.errors import DocumentsRefusedError
from controlplane.jurisdictions.packs import load_packs
from tests.controlplane.conftest import ADA
from tests.controlplane.estate_files import edited, source, tenant

REGION = """\
apiVersion: borough/v1
kind: Region
metadata: {{name: {name}}}
spec: {{title: {name}, country: {country}, jurisdictions: [{packs}]{more}}}
"""
DE_FR = {"de": ("DE", "gdpr"), "fr": ("FR", "gdpr")}


def pair(one: tuple[str, str], other: tuple[str, str], *, more: str = "") -> list[SourceFile]:
    """Region `home`, backed by region `help`."""
    texts = [
        REGION.format(name="home", country=one[0], packs=one[1], more=", backup: help"),
        REGION.format(name="help", country=other[0], packs=other[1], more=more),
    ]
    return [source(f"{name}.yaml", text) for name, text in zip(("home", "help"), texts, strict=True)]


def asking(name: str = "bank", number: str = "+15550100", *, classes: str = "voice") -> list[SourceFile]:
    """A tenant of `home` that asks for the backup."""
    files = edited(tenant(name, number, "home"), f"{name}/tenant.yaml", "[voice]", f"[{classes}]")
    consent = "    recording: {consent: opt_in}\n"
    return edited(files, f"{name}/tenant.yaml", consent, f"{consent}    residency: {{backup: true}}\n")


@pytest.mark.parametrize(
    ("one", "other", "rules"),
    [
        (("DE", "gdpr"), ("FR", "gdpr"), []),
        (("IN", "dpdp"), ("IN", "dpdp"), []),
        (("US", "tcpa"), ("US", "tcpa"), []),
        (("DE", "gdpr"), ("IN", "dpdp"), ["gdpr.residency.region_pair: Art. 44, Art. 45"]),
        (("IN", "dpdp"), ("DE", "gdpr"), ["dpdp.residency.region_pair: s. 16(1)"]),
        # Japan is adequate for Europe; nobody says that Europe is for Japan.
        (("DE", "gdpr"), ("JP", ""), ["hub.no_jurisdiction"]),
        (("US", "tcpa"), ("US", "ccpa"), ["hub.no_pack"]),
        (("US", "tcpa"), ("CA", "tcpa"), ["tcpa.residency.region_pair"]),
    ],
)
async def test_a_pair_that_a_pack_does_not_allow_is_refused_with_its_rule(
    documents: Documents, one: tuple[str, str], other: tuple[str, str], rules: list[str]
) -> None:
    if not rules:
        assert (await documents.apply(pair(one, other), ADA)).findings == ()
        return
    with pytest.raises(DocumentsRefusedError) as refused:
        await documents.apply(pair(one, other), ADA)
    assert "Region/home: spec.backup" in str(refused.value)
    assert all(rule in str(refused.value) for rule in rules)
    assert await documents.current("", "") == []


async def test_both_regions_are_judged_and_either_change_refuses_the_pair(documents: Documents) -> None:
    await documents.apply(pair(("DE", "gdpr"), ("FR", "gdpr")), ADA)
    moved = [file for file in pair(("DE", "gdpr"), ("IN", "dpdp")) if file.path == PurePath("help.yaml")]
    with pytest.raises(DocumentsRefusedError, match=r"gdpr\.residency\.region_pair"):
        await documents.apply(moved, ADA)


async def test_no_region_backs_itself(documents: Documents) -> None:
    own = [source("home.yaml", REGION.format(name="home", country="DE", packs="gdpr", more=", backup: home"))]
    with pytest.raises(DocumentsRefusedError, match=r"home.yaml:4: spec.backup"):
        await documents.apply(own, ADA)


async def test_a_tenant_that_asks_for_it_is_served_by_the_backup_and_others_are_not(
    documents: Documents, database: HubDatabase
) -> None:
    await documents.apply([*pair(*DE_FR.values()), *asking(), *tenant("shop", "+15550200", "home")], ADA)
    catalogue = Catalogue(database)
    await catalogue.refresh()
    assert catalogue.regions_of("bank") == ("home", "help")
    assert catalogue.regions_of("shop") == ("home",)
    assert list(catalogue.tenants("help")) == ["bank"]


def estate_of(files: list[SourceFile]) -> Estate:
    entries, problems = read_files(files)
    assert problems == []
    return entries


def bundle_of(region: str, files: list[SourceFile]) -> Bundle:
    compiled = compile_regions(estate_of(files), {}, PackBacking(load_packs()))
    (content,) = [found.content for found in compiled if found.region == region]
    return Bundle.FromString(zstandard.decompress(content))


def test_the_bundles_of_both_regions_tell_who_may_be_taken_and_who_not() -> None:
    files = [*pair(*DE_FR.values()), *asking(), *tenant("shop", "+15550200", "home")]
    for region in ("home", "help"):
        backings = bundle_of(region, files).backings
        assert backings.region == region
        told = list(backings.backings)
        assert [(backing.tenant, backing.refused_by) for backing in told] == [("bank", ""), ("shop", NOT_ASKED)]
        assert list(told[1].numbers) == ["+15550200"]
    assert {document.tenant for document in bundle_of("help", files).documents} == {"", "bank"}
    assert not bundle_of("help", pair(*DE_FR.values())).HasField("backings")


@pytest.mark.parametrize(
    ("files", "rule"),
    [
        ([*pair(*DE_FR.values(), more=", allowed_data_classes: [contact]"), *asking()], DATA_CLASSES),
        ([*pair(*DE_FR.values()), *asking(), *tenant("other", "+15550100", "help")], NUMBER_TAKEN),
        ([*pair(("DE", "gdpr"), ("US", "tcpa")), *asking()], "gdpr.residency.region_pair"),
        # The backup's own rules hold for whom it takes.
        (
            [*pair(("US", "tcpa"), ("US", "tcpa, gdpr")), *edited(asking(), "bank/tenant.yaml", "opt_in", "notice")],
            "gdpr.recording.consent",
        ),
    ],
)
def test_a_tenant_is_refused_by_the_first_rule_that_forbids_it(files: list[SourceFile], rule: str) -> None:
    (backing,) = PackBacking(load_packs()).of(estate_of(files))
    assert (backing.tenant, backing.refused_by) == ("bank", rule)
    assert backing.article
