"""Of calls: Asterisk answers, its workers listen, and a call that is knocked with reaches one of them."""

import re
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from provisioning.node.description import NodeDescription
from provisioning.node.machine import ARI_PORT, ARI_USER, worker_web_port
from provisioning.node.self_test.checks import Check, CheckFailedError, CheckSkippedError
from provisioning.node.self_test.sip_caller import knock
from provisioning.node.settings import worker_name

# No agent has a number of letters: the call is refused before it is answered, and leaves no record.
NUMBER = "self-test"
NOT_FOUND, UNAVAILABLE = 404, 503
_ASTERISK_ADVICE = "systemctl status borough-asterisk; journalctl -u borough-asterisk -n 50"
_WORKER_ADVICE = "systemctl status 'borough-calls@*'; journalctl -u borough-calls@1 -n 50"
# Asterisk itself says 404 to a trunk that it does not know: only the worker's own count proves that it heard the call.
_REFUSED = re.compile(
    r'^borough_calls_refused_total\{reason="(?:cordoned|unknown_number)"\} ([0-9.e+]+)$', re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallChecks:
    """One node. `password_file` is that of ARI."""

    node: NodeDescription
    password_file: Path
    ari_port: int = ARI_PORT
    web_ports: tuple[int, ...] = ()

    def all(self) -> list[Check]:
        return [
            Check(name="asterisk", within_s=10, ask=self.asterisk, advice=_ASTERISK_ADVICE),
            Check(name="workers", within_s=10, ask=self.workers, advice=_WORKER_ADVICE),
            Check(name="call", within_s=15, ask=self.call, advice=_ASTERISK_ADVICE),
        ]

    async def asterisk(self) -> str:
        """ARI lets the workers in."""
        document = await self._ari("asterisk/info")
        assert isinstance(document, dict)
        return f"Asterisk {document['system']['version']}"

    async def workers(self) -> str:
        """Every worker listens for calls."""
        wanted = {worker_name(index) for index in range(1, self.node.workers + 1)}
        document = await self._ari("applications")
        assert isinstance(document, list)
        missing = wanted - {str(app["name"]) for app in document}
        if missing:
            raise CheckFailedError(f"{', '.join(sorted(missing))} do not listen for calls", _WORKER_ADVICE)
        return f"{len(wanted)} listen for calls"

    async def call(self) -> str:
        """A worker refuses a number that nobody has: a cordoned node with 503, any other with 404."""
        if not self.node.trunks:
            raise CheckSkippedError("no trunk is described, so Asterisk takes no call")
        trunk = min(self.node.trunks, key=lambda trunk: trunk.srtp)
        before = await self._refused()
        status = await knock(self.node.address, self.node.sip.asterisk_port, NUMBER, trunk.name, srtp=trunk.srtp)
        is_heard = await self._refused() > before
        if is_heard and status == NOT_FOUND:
            return "a worker looked the number up"
        if is_heard and status == UNAVAILABLE:
            return "a worker refused it, as this node is cordoned"
        if status == UNAVAILABLE:
            raise CheckFailedError("no worker took the call: 503", _WORKER_ADVICE)
        raise CheckFailedError(
            f"no worker heard of the call, Asterisk itself answered {status}",
            "It may not know front door or trunk: borough node render --check, systemctl restart borough-asterisk.",
        )

    async def _ari(self, path: str) -> object:
        try:
            password = self.password_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise CheckFailedError(f"{self.password_file}: {error.strerror}", "The playbook writes it.") from error
        headers = {"Authorization": aiohttp.encode_basic_auth(ARI_USER, password)}
        url = f"http://127.0.0.1:{self.ari_port}/ari/{path}"
        try:
            async with (
                aiohttp.ClientSession(headers=headers, raise_for_status=True) as session,
                session.get(url) as answer,
            ):
                return await answer.json()
        except aiohttp.ClientResponseError as error:
            raise CheckFailedError(
                f"Asterisk answers {error.status} on ARI", "systemctl restart borough-asterisk if the password changed."
            ) from error
        except aiohttp.ClientError as error:
            raise CheckFailedError(f"Asterisk does not answer on ARI: {error}", _ASTERISK_ADVICE) from error

    async def _refused(self) -> float:
        ports = self.web_ports or tuple(worker_web_port(index) for index in range(1, self.node.workers + 1))
        total = 0.0
        try:
            async with aiohttp.ClientSession(raise_for_status=True) as session:
                for port in ports:
                    async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                        total += sum(float(count) for count in _REFUSED.findall(await answer.text()))
        except aiohttp.ClientError as error:
            raise CheckFailedError(f"a worker shows no metrics: {error}", _WORKER_ADVICE) from error
        return total
