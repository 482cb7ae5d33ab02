"""A store says what it holds, and a damaged or foreign one is refused by name."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli import borough
from provisioning.build_store.cli import build
from provisioning.build_store.errors import BuildHostError, StoreDamagedError, StoreSignatureError
from provisioning.build_store.manifest import (
    Component,
    Manifest,
    describe_file,
    read_manifest,
    seal_again,
    verify_store,
    write_manifest,
)
from provisioning.build_store.sbom import package_url, write_sbom


def component(kind: str, name: str, *, version: str = "1.0", where: str = "wheels.tar") -> Component:
    return Component(kind=kind, name=name, version=version, licence="MIT", sha256="0" * 64, where=where)


def make_key(directory: Path, name: str = "sign") -> tuple[Path, Path]:
    private, public = directory / f"{name}.key", directory / f"{name}.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return private, public


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A small signed store; its key lies beside it."""
    directory = tmp_path / "store"
    directory.mkdir()
    for name in ("wheels.tar", "models.tar"):
        (directory / name).write_bytes(name.encode() * 100)
    manifest = Manifest(
        version="1.0",
        commit="0" * 40,
        created_at="2026-11-23T00:00:00+00:00",
        python="3.13",
        files=tuple(describe_file(directory / name) for name in ("models.tar", "wheels.tar")),
        packages=(component("python", "click"),),
        models=(component("model", "silero-vad", where="models.tar"),),
        asterisk={"version": "22.10", "hash": "0" * 16},
    )
    private, _ = make_key(tmp_path)
    write_manifest(manifest, directory, private)
    return directory


def test_a_whole_store_is_believed(store: Path) -> None:
    """Our check, sha256sum's and openssl's agree."""
    manifest = verify_store(store, store.parent / "sign.pub")
    assert manifest == read_manifest(store)
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=store, check=True)
    command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", "../sign.pub"]
    command += ["-sigfile", "manifest.json.sig", "-in", "manifest.json"]
    subprocess.run(command, cwd=store, check=True, capture_output=True)


def _shorten(store: Path) -> None:
    (store / "wheels.tar").write_bytes(b"short")


def _change(store: Path) -> None:
    text = (store / "wheels.tar").read_bytes()
    (store / "wheels.tar").write_bytes(text[:-1] + b"!")


def _lose(store: Path) -> None:
    (store / "wheels.tar").unlink()


def _spoil(store: Path) -> None:
    (store / "manifest.json").write_text("{")


def _escape(store: Path) -> None:
    document = json.loads((store / "manifest.json").read_text())
    document["files"][0]["name"] = "../sign.key"
    (store / "manifest.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_shorten, "wheels.tar has 5 of 1000 bytes"),
        (_change, "wheels.tar is not the file that the manifest names"),
        (_lose, "wheels.tar is missing"),
        (_spoil, "manifest.json: "),
        (_escape, "is missing"),
    ],
)
def test_damage_is_named(store: Path, damage: Callable[[Path], None], complaint: str) -> None:
    damage(store)
    with pytest.raises(StoreDamagedError, match=complaint) as caught:
        verify_store(store)
    assert "borough build" in caught.value.hint


def test_a_changed_manifest_breaks_the_signature(store: Path) -> None:
    manifest = store / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"1.0"', '"1.1"'))
    with pytest.raises(StoreSignatureError, match="was not made with"):
        verify_store(store, store.parent / "sign.pub")


def test_an_unsigned_store_is_refused_where_a_key_is_given(store: Path) -> None:
    (store / "manifest.json.sig").unlink()
    with pytest.raises(StoreSignatureError, match=r"manifest\.json\.sig is missing"):
        verify_store(store, store.parent / "sign.pub")
    verify_store(store)


def test_another_key_did_not_sign(store: Path, tmp_path: Path) -> None:
    _, public = make_key(tmp_path, "other")
    with pytest.raises(StoreSignatureError):
        verify_store(store, public)


def test_a_key_of_another_kind_is_refused(store: Path, tmp_path: Path) -> None:
    key = tmp_path / "rsa.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    with pytest.raises(BuildHostError, match="is no Ed25519 key") as caught:
        seal_again(store, key)
    assert "openssl genpkey -algorithm ed25519" in caught.value.hint


def test_a_store_changed_on_purpose_is_sealed_again(store: Path) -> None:
    _change(store)
    sealed = seal_again(store, store.parent / "sign.key", version="1.1")
    assert verify_store(store, store.parent / "sign.pub") == sealed
    assert sealed.version == "1.1"


def test_verify_prints_what_it_found(store: Path) -> None:
    key = str(store.parent / "sign.pub")
    done = CliRunner().invoke(build, ["verify", str(store), "--key", key, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == {"store": str(store), "version": "1.0", "commit": "0" * 40, "bytes": 2000}


def test_build_asks_for_its_folder() -> None:
    assert CliRunner().invoke(build, []).exit_code == 2
    assert borough.name == "borough"


def test_the_bill_of_materials_is_the_same_for_the_same_parts(tmp_path: Path) -> None:
    """Each part has a name of its own, also where a package stands in two archives."""
    parts = [
        component("python", "click"),
        component("debian", "zstd", version="1:1.5.7+dfsg-1", where="debs.tar"),
        component("asterisk-root", "zstd", version="1:1.5.7+dfsg-1", where="asterisk.tar.zst"),
        component("model", "silero-vad", where="models.tar"),
    ]
    first = write_sbom(tmp_path / "a.json", version="1", created_at="2026-11-23T00:00:00+00:00", components=parts)
    second = write_sbom(tmp_path / "b.json", version="1", created_at="2026-11-23T00:00:00+00:00", components=parts)
    assert first.read_bytes() == second.read_bytes()
    document = json.loads(first.read_text())
    assert document["bomFormat"] == "CycloneDX"
    assert document["specVersion"] == "1.6"
    references = [row["bom-ref"] for row in document["components"]]
    assert len(set(references)) == len(parts)
    assert document["components"][3]["type"] == "machine-learning-model"
    assert document["components"][3]["licenses"] == [{"license": {"name": "MIT"}}]
    assert package_url(parts[1]) == "pkg:deb/debian/zstd@1%3A1.5.7%2Bdfsg-1?arch=amd64"
