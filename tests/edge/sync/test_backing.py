"""A node knows from its bundle whose calls may be taken elsewhere, and by which rule not."""

from pathlib import Path

import pytest

from contract.downlink_pb2 import Backing, Backings
from edge.sync.backing import REFUSED_ANNOUNCEMENT, BackingBook, Refusal
from edge.sync.bundle import BundleReader
from edge.sync.errors import RefusedError
from edge.sync.folder import SyncFolder
from edge.sync.verification import TrustedKeys
from tests.edge.sync.hub import REGION, SigningHub

ALLOWED = Backing(region="in-north", backup=REGION, tenant="acme", numbers=["+915550100"])
REFUSED = Backing(
    region="in-north",
    backup=REGION,
    tenant="bank",
    numbers=["915550200"],
    refused_by="dpdp.residency.x",
    article="s. 16",
)
BACKINGS = Backings(region=REGION, backings=[ALLOWED, REFUSED])


def test_what_comes_from_a_backed_region_is_taken_or_refused_by_a_named_rule() -> None:
    book = BackingBook(own_region=REGION, backings=tuple(BACKINGS.backings))
    assert book.refusal_of("+915550100") is None
    assert book.refusal_of("+915550200") == Refusal(tenant="bank", rule="dpdp.residency.x", article="s. 16")
    assert book.refusal_of("+915550300") is None


def test_the_region_that_is_backed_refuses_none_of_its_own() -> None:
    book = BackingBook(own_region="in-north", backings=tuple(BACKINGS.backings))
    assert book.refusal_of("915550200") is None


def test_backings_come_with_a_bundle_and_go_with_it(tmp_path: Path) -> None:
    hub = SigningHub()
    reader = BundleReader(region=REGION, keys=TrustedKeys([hub.key.public_key()]), limit_bytes=10**6)
    folder = SyncFolder(tmp_path, node="node-1", bundles_kept=2)
    folder.prepare()
    for version, backings in ((1, BACKINGS), (2, None)):
        folder.install(reader.open(hub.bundle(version, backings=backings), newer_than=version - 1))
        folder.activate(version)
        book = BackingBook.read(tmp_path / "current")
        assert book.backings == (tuple(BACKINGS.backings) if backings is not None else ())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"backings": 1}'])
def test_a_file_that_is_none_allows_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "backings.json").write_text(content, encoding="utf-8")
    assert BackingBook.read(tmp_path).backings == ()


def test_backings_of_another_region_are_refused() -> None:
    hub = SigningHub()
    reader = BundleReader(region=REGION, keys=TrustedKeys([hub.key.public_key()]), limit_bytes=10**6)
    with pytest.raises(RefusedError, match="another region"):
        reader.open(hub.bundle(1, backings=Backings(region="in-north")), newer_than=0)


def test_the_announcement_tells_why_and_promises_nothing() -> None:
    assert "data protection rules" in REFUSED_ANNOUNCEMENT
    assert "call again later" in REFUSED_ANNOUNCEMENT
