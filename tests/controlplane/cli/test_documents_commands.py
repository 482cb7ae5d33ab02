"""What the command line says before it ever reaches a hub."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from controlplane.cli.printing import duration
from controlplane.cli.references import reference
from tests.controlplane.certificates import Authority
from tests.controlplane.hub_process import borough


def run(*arguments: str) -> Result:
    return CliRunner().invoke(borough, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("get", "agnt"), "'agnt' is not a kind of document; one of Region, Tenant, Policy, Flow, Agent"),
        (("get", "agent", "line"), "name it as TENANT/NAME, such as harbour-bank/line"),
        (("apply", "-f", "nowhere.yaml"), "does not exist"),
        (("apply",), "Missing option '--file'"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_folder_without_documents_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "knowledge").mkdir()
    (tmp_path / "knowledge/items.yaml").write_text("items: []\n")
    result = run("apply", "-f", str(tmp_path))
    assert (result.exit_code, "there is no *.yaml file" in result.stderr) == (2, True)


def test_a_missing_context_names_the_file_and_the_option(tmp_path: Path) -> None:
    result = run("get", "all", "--context", str(tmp_path / "admin.toml"))
    assert (result.exit_code, "admin.toml does not exist" in result.stderr) == (1, True)
    assert "--context" in result.stderr


def test_the_context_may_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text("address = 7\n")
    monkeypatch.setenv("BOROUGH_CONTEXT", str(tmp_path / "mine.toml"))
    assert "mine.toml: address" in run("get", "all").stderr


def test_a_hub_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    """Paths in a context are relative to it."""
    authority = Authority(tmp_path)
    authority.issue("ada", "operator")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (tmp_path / "admin.toml").write_text(
        f'address = "127.0.0.1:{port}"\nauthority = "ca.pem"\ncertificate = "ada.pem"\nkey = "ada.key"\n'
    )
    result = run("get", "all", "--context", str(tmp_path / "admin.toml"))
    assert (result.exit_code, "hub.unreachable" in result.stderr) == (1, True)


def test_names_are_read_as_operators_write_them() -> None:
    assert str(reference("agents", "bank/line")).split() == ["kind:", '"Agent"', "tenant:", '"bank"', "name:", '"line"']
    assert reference("tenant", "bank").tenant == "bank"
    assert reference("Region", "in-south").tenant == ""


def test_ages_are_short() -> None:
    shown = [duration(seconds * 1000) for seconds in (0, 119, 120, 7_199, 7_200, 172_800)]
    assert shown == ["0s", "119s", "2m", "119m", "2h", "2d"]
