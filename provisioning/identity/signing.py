"""What the authority does for nodes: signs for keys that it never sees, all of a node's certificates or none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from provisioning.identity.certificates import SERVICE_DAYS, pin_of, requested_key
from provisioning.identity.errors import (
    IdentityMissingError,
    IdentityNameError,
    IdentityRequestError,
    IdentityStagedError,
)
from provisioning.identity.names import LISTENING_ROLES, ServiceName, ServiceRole, is_host
from provisioning.identity.store import (
    CERTIFICATE,
    VALID,
    Entry,
    IdentityStore,
    State,
    entry_of,
    next_generation,
    order_of,
    switched,
)

MOST_ADDRESSES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningOrder:
    """One certificate that is wanted. `generation` 0: whichever is the next; `days` 0: as long as services get."""

    role: str
    request_der: bytes
    addresses: tuple[str, ...] = ()
    days: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A certificate that was made (PEM), and what the index says of it."""

    entry: Entry
    certificate: bytes


@dataclass(frozen=True, slots=True)
class NodeSigning:
    """The authority for the services of hub and nodes."""

    store: IdentityStore

    def sign(self, site: str, node: str, orders: Sequence[SigningOrder], now: datetime) -> list[Signed]:
        """Raises IdentityNameError, IdentityRequestError, IdentityStagedError."""
        names = [service_name(site, node, order.role) for order in orders]
        if not names or len(set(names)) != len(names):
            raise IdentityRequestError("one order or more, and every role once")
        authority = self.store.authority()
        with self.store.locked():
            entries = self.store.entries()
            signed = []
            for name, order in zip(names, orders, strict=True):
                key = requested_key(order.request_der)
                _check(name, order, entries, pin_of(key))
                generation = next_generation(entries, name)
                wanted = order_of(name, generation, order.addresses, min(order.days or SERVICE_DAYS, SERVICE_DAYS))
                certified = authority.certify(wanted, key, now)
                entry = entry_of(entries, name, certified, order.addresses)
                entries.append(entry)
                signed.append(Signed(entry=entry, certificate=certified.certificate))
            for made in signed:
                self.store.write_file(made.entry, CERTIFICATE, made.certificate)
            self.store.save(entries)
            for made in signed:
                if made.entry.state is State.CURRENT:
                    self.store.point(made.entry)
        return signed

    def switch(self, site: str, node: str, staged: Sequence[tuple[str, int]]) -> list[Entry]:
        """Make staged certificates current, all that there are if none is named. Raises IdentityMissingError."""

        def change(entries: list[Entry], chosen: list[Entry]) -> list[Entry]:
            for entry in chosen:
                current = replace(entry, state=State.CURRENT)
                entries = [switched(other, current) for other in entries]
            return entries

        changed = self._change_staged(site, node, staged, change)
        for entry in changed:
            if entry.state is State.CURRENT:
                self.store.point(entry)
        return changed

    def retire(self, site: str, node: str, staged: Sequence[tuple[str, int]]) -> list[Entry]:
        """Withdraw staged certificates, all that there are if none is named. Raises IdentityMissingError."""

        def change(entries: list[Entry], chosen: list[Entry]) -> list[Entry]:
            serials = {entry.serial for entry in chosen}
            return [replace(e, state=State.RETIRED) if e.serial in serials else e for e in entries]

        return self._change_staged(site, node, staged, change)

    def revoke(self, site: str, node: str) -> list[Entry]:
        """Shut a node out; none that is valid is no error. Raises IdentityNameError."""
        service_name(site, node, ServiceRole.SERVER)
        try:
            return self.store.revoke(f"{site}/{node}")
        except IdentityMissingError:
            return []

    def valid(self, site: str, now: datetime) -> list[Entry]:
        """Certificates of services with which somebody may come, of one site or of all, oldest first."""
        return [
            entry
            for entry in self.store.entries()
            if entry.state in VALID
            and entry.expires_in_days(now) > 0
            and entry.key.count("/") == 2
            and (not site or entry.key.startswith(f"{site}/"))
        ]

    def _change_staged(
        self,
        site: str,
        node: str,
        staged: Sequence[tuple[str, int]],
        change: Callable[[list[Entry], list[Entry]], list[Entry]],
    ) -> list[Entry]:
        wanted = {(service_name(site, node, role).key, generation) for role, generation in staged}
        with self.store.locked():
            before = self.store.entries()
            waiting = [e for e in before if e.state is State.STAGED and e.key.startswith(f"{site}/{node}/")]
            chosen = [e for e in waiting if not wanted or (e.key, e.generation) in wanted]
            if not chosen or len(chosen) < len(wanted):
                raise IdentityMissingError(f"{site}/{node} has no such staged certificate", hint="Sign one first.")
            after = change(before, chosen)
            self.store.save(after)
        return [entry for old, entry in zip(before, after, strict=True) if old != entry]


def service_name(site: str, node: str, role: str) -> ServiceName:
    """Raises IdentityNameError, also for a role that there is not."""
    try:
        return ServiceName(site=site, node=node, role=ServiceRole(role))
    except ValueError:
        raise IdentityNameError(
            f"there is no role {role!r}", hint=f"Roles are {', '.join(map(str, ServiceRole))}."
        ) from None


def _check(name: ServiceName, order: SigningOrder, entries: Sequence[Entry], pin: str) -> None:
    if any(entry.pin == pin for entry in entries):
        raise IdentityRequestError(f"{name.key}: this key was certified before")
    if any(entry.key == name.key and entry.state is State.STAGED for entry in entries):
        raise IdentityStagedError(f"{name.key} has a staged certificate already")
    generation = next_generation(entries, name)
    if order.generation not in (0, generation):
        raise IdentityRequestError(f"{name.key}: the next generation is {generation}, not {order.generation}")
    if bool(order.addresses) != (name.role in LISTENING_ROLES):
        raise IdentityRequestError(
            f"{name.key}: roles that others connect to have addresses, and only those",
            hint=f"They are {', '.join(sorted(LISTENING_ROLES))}.",
        )
    if len(order.addresses) > MOST_ADDRESSES:
        raise IdentityRequestError(f"{name.key}: more than {MOST_ADDRESSES} addresses")
    for address in order.addresses:
        if not is_host(address):
            raise IdentityRequestError(f"{name.key}: {address!r} is neither an IP address nor a host name")
