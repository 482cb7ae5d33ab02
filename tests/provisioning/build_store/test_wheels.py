"""What nodes get of requirements.lock is found for their Python, not for this one."""

import base64
import hashlib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag

from provisioning.build_store.errors import BuildDownloadError, BuildError, BuildMismatchError
from provisioning.build_store.lock import Pin, read_lock
from provisioning.build_store.wheels import (
    applies,
    collect_wheels,
    describe_wheel,
    lines_with_hashes,
    node_tags,
    product_requirements,
)

REPOSITORY = Path(__file__).resolve().parents[3]
LOCK = REPOSITORY / "requirements.lock"


def make_wheel(directory: Path, name: str, *requires: str, tag: str = "py3-none-any", licence: str = "MIT") -> Path:
    """Write a wheel without content."""
    path = directory / f"{name}-1.0-{tag}.whl"
    metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\nLicense-Expression: {licence}\n"
    metadata += "".join(f"Requires-Dist: {text}\n" for text in requires)
    wheel = f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n"
    members = {f"{name}-1.0.dist-info/METADATA": metadata, f"{name}-1.0.dist-info/WHEEL": wheel}
    with zipfile.ZipFile(path, "w") as archive:
        record = ""
        for member, text in members.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{member},sha256={digest},{len(text)}\n"
            archive.writestr(member, text)
        archive.writestr(f"{name}-1.0.dist-info/RECORD", f"{record}{name}-1.0.dist-info/RECORD,,\n")
    return path


def pins_of(*paths: Path) -> dict[str, Pin]:
    wheels = [describe_wheel(path) for path in paths]
    return {one.name: Pin(name=one.name, version=one.version, sha256s=frozenset([one.sha256])) for one in wheels}


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which pip takes everything, and nothing from elsewhere."""
    directory = tmp_path / "registry"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return directory


def test_the_lock_is_read_whole() -> None:
    """Every dependency of the product has a version and hashes; the developers' tools are in the same file."""
    pins = read_lock(LOCK)
    names = {one.name.lower().replace("_", "-") for one in product_requirements(REPOSITORY / "pyproject.toml")}
    assert names <= set(pins)
    assert "pytest" in pins
    assert all(len(digest) == 64 for pin in pins.values() for digest in pin.sha256s)


def test_a_lock_without_hashes_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("click==8.2.0\n")
    with pytest.raises(BuildError, match="click has no version or no hash"):
        read_lock(lock)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a", True),
        ("a; python_version < '3.12'", False),
        ("a; python_full_version >= '3.13'", True),
        ("a; sys_platform == 'win32'", False),
        ("a; platform_machine == 'aarch64'", False),
        ("a; extra == 'socks'", False),
        ("a; extra == 'http2' and python_version >= '3.13'", True),
    ],
)
def test_markers_are_those_of_a_node(text: str, *, wanted: bool) -> None:
    """This machine may run Python 3.11; what counts is the node's 3.13."""
    assert applies(Requirement(text), frozenset(["http2"])) is wanted


def test_a_node_takes_wheels_up_to_its_own_library() -> None:
    tags = node_tags()
    assert Tag("cp313", "cp313", "manylinux_2_28_x86_64") in tags
    assert Tag("cp39", "abi3", "manylinux2014_x86_64") in tags
    assert Tag("py3", "none", "any") in tags
    assert Tag("cp313", "cp313", "manylinux_2_42_x86_64") not in tags
    assert Tag("cp311", "cp311", "manylinux_2_28_x86_64") not in tags


def test_only_what_the_product_needs_is_collected(registry: Path, tmp_path: Path) -> None:
    """A developer's tool of the same lock stays out, and so does what another Python needs."""
    paths = [
        make_wheel(registry, "product", "needed>=1", "old; python_version < '3.12'"),
        make_wheel(registry, "needed", "deeper[fast]", tag="cp313-cp313-manylinux_2_28_x86_64"),
        make_wheel(registry, "deeper", "faster; extra == 'fast'", "slower; extra == 'slow'"),
        make_wheel(registry, "faster"),
        make_wheel(registry, "slower"),
        make_wheel(registry, "old"),
        make_wheel(registry, "tool"),
    ]
    target = tmp_path / "wheels"
    target.mkdir()
    wheels = collect_wheels([Requirement("product")], pins_of(*paths), target, lambda _: None)
    assert sorted(wheels) == ["deeper", "faster", "needed", "product"]
    assert sorted(path.name.split("-")[0] for path in target.iterdir()) == ["deeper", "faster", "needed", "product"]
    lines = lines_with_hashes(wheels.values()).splitlines()
    assert lines[0] == f"deeper==1.0 --hash=sha256:{hashlib.sha256(paths[2].read_bytes()).hexdigest()}"


def test_a_file_that_was_not_locked_is_refused(registry: Path, tmp_path: Path) -> None:
    """A registry that serves other bytes under the same name ends the build."""
    pins = pins_of(make_wheel(registry, "product"))
    make_wheel(registry, "product", licence="GPL-3.0-only")
    with pytest.raises(BuildMismatchError, match="DO NOT MATCH") as caught:
        collect_wheels([Requirement("product")], pins, tmp_path, lambda _: None)
    assert "other files than were locked" in caught.value.hint


def test_a_wheel_for_another_python_is_no_wheel(registry: Path, tmp_path: Path) -> None:
    pins = pins_of(make_wheel(registry, "product", tag="cp311-cp311-manylinux_2_28_x86_64"))
    with pytest.raises(BuildDownloadError, match="No matching distribution") as caught:
        collect_wheels([Requirement("product")], pins, tmp_path, lambda _: None)
    assert "make lock" in caught.value.hint


def test_what_the_lock_lacks_is_named(registry: Path, tmp_path: Path) -> None:
    pins = pins_of(make_wheel(registry, "product", "forgotten"))
    with pytest.raises(BuildError, match="has no forgotten") as caught:
        collect_wheels([Requirement("product")], pins, tmp_path, lambda _: None)
    assert caught.value.hint == "make lock"


def test_a_registry_that_cannot_be_reached_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint is about the network, not about the package."""
    pin = Pin(name="product", version="1.0", sha256s=frozenset(["0" * 64]))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(BuildDownloadError) as caught:
        collect_wheels([Requirement("product")], {"product": pin}, tmp_path, lambda _: None)
    assert "check the network" in caught.value.hint
