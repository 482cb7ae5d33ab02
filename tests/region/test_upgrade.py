"""A region that takes calls gets a release: a broken one, which is halted, and a good one, as the page says."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.target import Trunk
from provisioning.local.layout import REPOSITORY
from provisioning.machines.machine import Machine
from provisioning.machines.region import RegionRehearsal
from tests.region.calling import calls_going_on
from tests.region.evidence import is_in_rotation, releases
from tests.region.pages import Reader

# A service that starts, says that it is well, and speaks no word: only the self-test can find out.
MUTE = """
async def _says_nothing(*_: object) -> object:  # an async generator, as the method that it replaces
    return
    yield


InferenceService.Synthesise = _says_nothing


"""
ENTRY = "async def serve("


@pytest.fixture(scope="module")
def number() -> str:
    """The end of this run's versions: others than those of runs before it on machines that were kept.

    A version that could be a telephone number does not pass the border: six digits with the one before it.
    """
    now = int(time.time())
    return f"{now // 60 % 1000}.{now % 60}"


@pytest.fixture
def broken(region: RegionRehearsal, number: str, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Version and store of a release whose inference is mute."""
    checkout = tmp_path / "checkout"
    shutil.copytree(REPOSITORY, checkout, ignore=shutil.ignore_patterns(".state", ".venv", "__pycache__", ".*_cache"))
    program = checkout / "edge" / "inference" / "__main__.py"
    text = program.read_text(encoding="utf-8")
    assert ENTRY in text
    program.write_text(text.replace(ENTRY, MUTE.lstrip() + ENTRY, 1), encoding="utf-8")
    store = region.directory / "store-broken"
    yield region.build(version=f"9.0.0+broken.{number}", repository=checkout, store=store).version, store
    shutil.rmtree(store)


def test_a_broken_release_is_halted_at_the_first_node(
    region: RegionRehearsal, trunk: Trunk, nodes: list[Machine], broken: tuple[str, Path]
) -> None:
    """Its self-test fails: the node goes back to what it ran, the others were never touched, no call is lost."""
    (good,) = releases(nodes)
    version, store = broken
    named = (f"borough_version={version}", f"borough_store={store}", "rotation_test_within_s=30")
    with calls_going_on(trunk) as calls:
        outcome = region.player.play("upgrade", *(word for value in named for word in ("-e", value)))
    # As it was said, before it was folded and quoted.
    said = " ".join(outcome.output.replace("\\", " ").split())
    print(f"halted and rolled back after {outcome.seconds} s")  # noqa: T201 - the figure that is asked for
    assert outcome.exit_code != 0
    assert f"The upgrade to {version} is halted at {nodes[0].place.name}, and no further node was touched." in said
    assert f"The node is back at {good} and takes calls" in said
    assert "the voice made 0.0 s of audio" in said
    assert releases(nodes) == {good}
    assert {node.place.name for node in nodes if not is_in_rotation(node)} == set()
    assert {name for name, changed in outcome.changed.items() if changed} == {nodes[0].place.name}
    assert calls.lost == []


def test_an_upgrade_drops_no_call(region: RegionRehearsal, trunk: Trunk, nodes: list[Machine], number: str) -> None:
    """One node after the other takes the new release, and calls are answered all the time."""
    second = region.build(version=f"9.1.0+run.{number}").version
    assert second not in releases(nodes)
    region.write_inventory(second)
    began = time.monotonic()
    with calls_going_on(trunk) as calls:
        Reader(region=region).follow("upgrade")
    print(f"hub and nodes upgraded in {time.monotonic() - began:.0f} s")  # noqa: T201 - the figure that is asked for
    assert releases(nodes) == {second}
    assert {node.place.name for node in nodes if not is_in_rotation(node)} == set()
    assert calls.lost == []
