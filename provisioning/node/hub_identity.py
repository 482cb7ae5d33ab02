"""The identity of the hub's own machine, and of its first admin. Done by root, beside the authority's service.

Keys are made here and lie in /etc/borough/identity as a node's do; the authority's folder holds certificates only.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from provisioning.identity.names import HUB_ROLES, HUB_SITE, LISTENING_ROLES, PersonName, PersonRole
from provisioning.identity.signing import NodeSigning, Signed, SigningOrder
from provisioning.identity.store import CERTIFICATE, KEY, Entry, IdentityStore, State
from provisioning.node.description import HubDescription
from provisioning.node.enrolment.requests import Answer, new_keys, pairs_of, request_of
from provisioning.node.identity_folder import IdentityFolder, Pair, Trust
from provisioning.toml_text import toml_text

CONTEXT = "context.toml"
AUTHORITY = "authority.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubIdentity:
    """The folders of a hub's machine."""

    hub: HubDescription
    store: IdentityStore
    folder: IdentityFolder

    def ensure(self, addresses: Sequence[str], now: datetime) -> bool:
        """Make authority, signing key and the hub's certificates where there are none; whether it made any.

        Raises IdentityError, NodeIdentityError.
        """
        if not self.store.authority_file.exists():
            self.store.init(now)
        if self.folder.is_enrolled:
            return False
        signing = NodeSigning(self.store)
        # Of an attempt that did not get to its end: those keys are lost.
        signing.revoke(HUB_SITE, self.hub.name)
        pairs = self._sign(signing, addresses, now)
        trust = Trust(
            authority=self.store.authority_file.read_bytes(),
            signing_public=self.store.signing_public_file.read_bytes(),
        )
        self.folder.install(pairs, trust)
        return True

    def stage(self, addresses: Sequence[str], now: datetime) -> None:
        """Renewed certificates beside the current ones; what was staged before is withdrawn."""
        signing = NodeSigning(self.store)
        if any(entry.state is State.STAGED for entry in self._own(signing, now)):
            signing.retire(HUB_SITE, self.hub.name, [])
        self.folder.discard_staged()
        self.folder.stage(self._sign(signing, addresses, now), 0)

    def confirm(self) -> None:
        """The staged certificates are in use: the old ones are valid no more."""
        NodeSigning(self.store).switch(HUB_SITE, self.hub.name, [])
        self.folder.discard_old()

    def addresses(self, given: Sequence[str]) -> tuple[str, ...]:
        """What the hub is reached at: its own address, those given, loopback."""
        return tuple(dict.fromkeys((self.hub.address, *given, "127.0.0.1", "localhost")))

    def known_addresses(self, now: datetime) -> tuple[str, ...]:
        """Those of the newest certificate that others connect to."""
        own = [entry for entry in self._own(NodeSigning(self.store), now) if entry.addresses]
        return own[-1].addresses if own else self.addresses(())

    def _own(self, signing: NodeSigning, now: datetime) -> list[Entry]:
        return [e for e in signing.valid(HUB_SITE, now) if e.key.startswith(f"{HUB_SITE}/{self.hub.name}/")]

    def _sign(self, signing: NodeSigning, addresses: Sequence[str], now: datetime) -> list[Pair]:
        keys = new_keys(HUB_ROLES)
        orders = [
            SigningOrder(
                role=role,
                request_der=request_of(self.hub.name, role, key),
                addresses=tuple(addresses) if role in LISTENING_ROLES else (),
            )
            for role, key in keys.items()
        ]
        signed = signing.sign(HUB_SITE, self.hub.name, orders, now)
        return pairs_of(
            HUB_SITE, self.hub.name, keys, [_answer(made) for made in signed], self.store.authority_file.read_bytes()
        )


def ensure_admin(hub: HubDescription, store: IdentityStore, name: str, out: Path, now: datetime) -> bool:
    """Make an admin's certificate and context file in a folder, where there is none; whether it made it.

    The key is moved out of the authority's folder. Raises IdentityError.
    """
    if (out / CONTEXT).exists():
        return False
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    out.chmod(0o700)
    person = PersonName(name=name, role=PersonRole.ADMIN)
    entry = store.issue(person, now)
    made = store.root / entry.key / str(entry.generation)
    shutil.copyfile(made / CERTIFICATE, out / CERTIFICATE)
    (out / KEY).touch(mode=0o600)
    shutil.copyfile(made / KEY, out / KEY)
    (made / KEY).unlink()
    shutil.copyfile(store.authority_file, out / AUTHORITY)
    # Relative to the context file, so that the folder can be carried away.
    context = {
        "": {
            "address": f"{hub.address}:{hub.admin_port}",
            "authority": AUTHORITY,
            "certificate": CERTIFICATE,
            "key": KEY,
        }
    }
    fresh = out / f".{CONTEXT}.new"
    fresh.write_text(toml_text(context), encoding="utf-8")
    fresh.chmod(0o600)
    fresh.rename(out / CONTEXT)
    return True


def _answer(made: Signed) -> Answer:
    return Answer(role=made.entry.role, generation=made.entry.generation, certificate=made.certificate)
