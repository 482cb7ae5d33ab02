"""`borough identity`, as an operator types it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from provisioning.identity.cli import identity
from provisioning.identity.errors import IdentityMissingError


def _run(store: Path, *arguments: str) -> Result:
    return CliRunner().invoke(identity, [*arguments, "--store", str(store), "--json"], catch_exceptions=False)


def test_a_certificate_from_issue_to_revocation(tmp_path: Path) -> None:
    """Issued, rotated, switched, revoked; each step shows in the list."""
    assert _run(tmp_path, "init").exit_code == 0
    issued = json.loads(_run(tmp_path, "issue", "in-south/in-south-1", "--role", "server", "--address", "::1").output)
    assert (issued[0]["state"], issued[0]["generation"]) == ("current", 1)
    assert (Path(issued[0]["directory"]) / "certificate.pem").is_file()
    staged = json.loads(_run(tmp_path, "rotate", "in-south/in-south-1", "--role", "server").output)
    assert staged[0]["state"] == "staged"
    assert len(json.loads(_run(tmp_path, "list").output)) == 2
    _run(tmp_path, "rotate", "in-south/in-south-1", "--role", "server", "--switch")
    assert [row["generation"] for row in json.loads(_run(tmp_path, "list").output)] == [2]
    assert [row["state"] for row in json.loads(_run(tmp_path, "revoke", "in-south").output)] == ["revoked"]
    assert json.loads(_run(tmp_path, "list").output) == []
    assert [row["state"] for row in json.loads(_run(tmp_path, "list", "--all").output)] == ["retired", "revoked"]


def test_a_person_has_one_of_four_roles(tmp_path: Path) -> None:
    """And a table shows when the certificate ends."""
    _run(tmp_path, "init")
    assert _run(tmp_path, "issue", "ana", "--role", "operator", "--days", "3").exit_code == 0
    shown = CliRunner().invoke(identity, ["list", "--store", str(tmp_path)], catch_exceptions=False)
    assert "people/ana" in shown.output
    assert json.loads(_run(tmp_path, "list").output)[0]["expires_soon"] is True
    assert _run(tmp_path, "issue", "ana", "--role", "king").exit_code == 2


def test_a_service_is_named_with_its_site(tmp_path: Path) -> None:
    """Else it is wrong usage."""
    _run(tmp_path, "init")
    result = _run(tmp_path, "issue", "in-south-1", "--role", "border")
    assert result.exit_code == 2
    assert "SITE/NODE" in result.output


def test_without_an_authority_the_error_says_what_makes_one(tmp_path: Path) -> None:
    """`borough` prints its hint."""
    with pytest.raises(IdentityMissingError) as raised:
        _run(tmp_path, "issue", "ana", "--role", "viewer")
    assert "borough identity init" in raised.value.hint
