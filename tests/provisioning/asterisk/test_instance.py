"""A real Asterisk from the image: it starts, says why when it cannot, and leaves nothing when its starter dies."""

import asyncio
import os
import signal
import stat
import sys
import textwrap
from pathlib import Path

import pytest

from provisioning.asterisk.errors import AsteriskStartError
from provisioning.asterisk.image import REPOSITORY
from provisioning.asterisk.instance import AsteriskInstance
from tests.asterisk_pair import pair_settings, require_asterisk


def assert_is_confined(instance: AsteriskInstance) -> None:
    """Its own user, its own view of the disk with a read-only image, and settings that nobody else reads."""
    settings = instance.settings
    process = Path(f"/proc/{instance.pid}")
    assert f"Uid:\t{settings.user_id}\t{settings.user_id}" in (process / "status").read_text(encoding="ascii")
    assert (process / "root/srv/etc/ari.conf").is_file()
    roots = [line.split() for line in (process / "mountinfo").read_text(encoding="ascii").splitlines()]
    assert any(fields[4] == "/" and "ro" in fields[5].split(",") for fields in roots)
    for path in (settings.directory / "etc").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.stat().st_uid == settings.user_id


async def test_two_instances_run_side_by_side_and_see_each_other(tmp_path: Path) -> None:
    """One image, two directories; secrets are readable by Asterisk only and no instance complains."""
    root = require_asterisk()
    node, carrier = pair_settings(tmp_path, stasis_apps=("calls-0",))
    async with AsteriskInstance(root, node) as one, AsteriskInstance(root, carrier) as other:
        assert one.pid != other.pid
        assert_is_confined(one)
        for each in (one, other):
            assert "ERROR" not in each.log_tail()
            assert "WARNING" not in each.log_tail()


async def test_taken_port_is_a_clear_error(tmp_path: Path) -> None:
    """The error carries Asterisk's own words."""
    root = require_asterisk()
    node, other = pair_settings(tmp_path, stasis_apps=("calls-0",))
    clash = type(node)(
        name="clash",
        directory=tmp_path / "clash",
        dialplan=node.dialplan,
        sip_port=other.sip_port,
        http_port=node.http_port,
        rtp_ports=node.rtp_ports,
        peers=node.peers,
    )
    async with AsteriskInstance(root, node):
        with pytest.raises(AsteriskStartError, match=f"{node.http_port}"):
            async with AsteriskInstance(root, clash):
                pass


async def test_broken_image_is_a_clear_error(tmp_path: Path) -> None:
    """No Asterisk in the root: its exit status and hint, within moments."""
    require_asterisk()
    node, _ = pair_settings(tmp_path, stasis_apps=("calls-0",))
    broken = tmp_path / "root"
    for name in ("srv", "tmp", "proc", "dev"):
        (broken / name).mkdir(parents=True)
    with pytest.raises(AsteriskStartError, match="ended with status"):
        async with AsteriskInstance(broken, node):
            pass


async def test_asterisk_dies_with_its_starter(tmp_path: Path) -> None:
    """A starter that is killed leaves no process, hence no mount and no port."""
    require_asterisk()
    program = textwrap.dedent(
        f"""
        import asyncio
        from pathlib import Path
        from provisioning.asterisk.image import ensure_image
        from provisioning.asterisk.instance import AsteriskInstance
        from tests.asterisk_pair import pair_settings

        async def main():
            node, _ = pair_settings(Path({str(tmp_path)!r}), stasis_apps=("calls-0",))
            async with AsteriskInstance(ensure_image(), node) as instance:
                print(instance.pid, flush=True)
                await asyncio.Event().wait()

        asyncio.run(main())
        """
    )
    starter = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    assert starter.stdout is not None
    async with asyncio.timeout(30):
        pid = int(await starter.stdout.readline())
        watched = os.pidfd_open(pid)
        starter.send_signal(signal.SIGKILL)
        await starter.wait()
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(watched, ended.set)
        await ended.wait()
        loop.remove_reader(watched)
    os.close(watched)
