"""Roles from certificates: who may do what, and who is nobody."""

from pathlib import Path

import pytest

from controlplane.admin.callers import Role, caller_of, require
from controlplane.errors import NotAllowedError, UnknownCallerError
from tests.controlplane.certificates import Authority


class ContextOf:
    """What gRPC says of a peer with this certificate."""

    def __init__(self, *certificates: Path) -> None:
        self._pems = [path.read_bytes() for path in certificates]

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": self._pems} if self._pems else {}


def test_a_certificate_names_the_person_and_the_role(tmp_path: Path) -> None:
    identity = Authority(tmp_path).issue("ada", "operator")
    caller = caller_of(ContextOf(identity.certificate))
    assert (caller.name, caller.role, caller.serial) == ("ada", Role.OPERATOR, identity.serial)


@pytest.mark.parametrize("role", [None, "superuser", "Admin"])
def test_a_certificate_without_a_known_role_is_nobody(tmp_path: Path, role: str | None) -> None:
    with pytest.raises(UnknownCallerError):
        caller_of(ContextOf(Authority(tmp_path).issue("ada", role).certificate))


def test_no_certificate_is_nobody() -> None:
    with pytest.raises(UnknownCallerError):
        caller_of(ContextOf())


MAY = {
    Role.VIEWER: {Role.VIEWER},
    Role.OPERATOR: {Role.VIEWER, Role.OPERATOR},
    Role.COMPLIANCE: {Role.VIEWER, Role.COMPLIANCE},
    Role.ADMIN: set(Role),
}


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("needed", list(Role))
def test_every_role_may_what_the_table_says(tmp_path: Path, role: Role, needed: Role) -> None:
    context = ContextOf(Authority(tmp_path).issue("ada", role).certificate)
    if needed in MAY[role]:
        assert require(context, needed).role is role
    else:
        with pytest.raises(NotAllowedError, match=needed):
            require(context, needed)
