"""What each role below our services has made of a machine, asked of the machine itself."""

import json
import re

import pytest

from provisioning.machines.region import RegionRehearsal
from tests.region.asking import Host, address_of, guard_of, is_served, lines_of
from tests.region.evidence import version_of_store

IDENTITY = "/etc/borough/identity"


# release, models


def test_one_release_is_in_use(region: RegionRehearsal, host: Host) -> None:
    """Whole, the inventory's, and the one that everybody's command runs."""
    release = f"/opt/borough/releases/{version_of_store(region)}"
    assert host.file("/opt/borough/current").linked_to == release
    assert host.file(f"{release}/complete").size > 0
    assert host.file("/usr/local/bin/borough").linked_to == f"{release}/bin/borough"
    assert version_of_store(region) in host.check_output("borough --version")
    assert guard_of(host, release)[:2] == ("root", "root")
    assert lines_of(host, f"find {release}/ -perm /022 -not -type l") == []


def test_packages_come_from_the_release_only(host: Host) -> None:
    """No other source is left, and what an interrupted run leaves is not there."""
    assert host.file("/etc/apt/sources.list.d").listdir() == ["borough.sources"]
    assert not host.file("/etc/apt/sources.list").exists
    assert re.search(r"^URIs: file:/var/cache/borough/debs-\w{16}$", host.file("/etc/apt/sources.list.d/borough.sources").content_string, re.MULTILINE)  # fmt: skip  # noqa: E501
    assert not host.file("/var/cache/borough/wheels").exists
    assert not host.package("gcc").is_installed


def test_models_are_whole_and_nobodys_to_change(host: Host) -> None:
    """A link to a folder that is named by what is in it."""
    folder = host.file("/var/lib/borough/models").linked_to
    assert re.fullmatch(r"/var/lib/borough/models-[0-9a-f]{16}", folder)
    assert host.file(f"{folder}/.complete").exists
    assert lines_of(host, f"find {folder} ! -user root -o -perm /022") == []


# base, firewall


def test_ssh_lets_in_by_key_only(host: Host) -> None:
    """What sshd itself says, and no host key of an old kind."""
    said = set(lines_of(host, "sshd -T"))
    assert {
        *("passwordauthentication no", "permitrootlogin without-password", "authenticationmethods publickey"),
        *("x11forwarding no", "allowagentforwarding no", "permittunnel no", "maxauthtries 3"),
    } <= said
    assert guard_of(host, "/etc/ssh/sshd_config.d/10-borough.conf") == ("root", "root", 0o600)
    assert lines_of(host, "find /etc/ssh -name 'ssh_host_dsa*' -o -name 'ssh_host_ecdsa*'") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net.ipv4.conf.all.accept_redirects", 0),
        ("net.ipv4.conf.all.send_redirects", 0),
        ("net.ipv4.conf.all.accept_source_route", 0),
        ("net.ipv4.conf.all.log_martians", 1),
        ("net.ipv4.tcp_syncookies", 1),
        ("net.ipv6.conf.all.accept_redirects", 0),
    ],
)
def test_the_kernel_is_hardened(host: Host, name: str, value: int) -> None:
    """What a container may set; the rest is its host's (and the drop-in names it)."""
    assert host.sysctl(name) == value


def test_the_system_keeps_still_and_its_journal(host: Host) -> None:
    """No timer installs anything, no core file is written, modules that nobody needs are not loaded."""
    assert 'APT::Periodic::Enable "0";' in lines_of(host, "apt-config dump")
    assert not host.service("apt-daily.timer").is_running
    assert "Storage=persistent" in host.file("/etc/systemd/journald.conf.d/10-borough.conf").content_string
    assert host.file("/var/log/journal").listdir() != []
    assert lines_of(host, "systemctl show --value --property=DefaultLimitCORE") == ["0"]
    assert "install sctp /bin/false" in host.file("/etc/modprobe.d/borough.conf").content_string


def test_the_firewall_drops_what_it_does_not_know(host: Host) -> None:
    """Now and after a boot; what it drops is counted."""
    assert is_served(host, "nftables")
    assert guard_of(host, "/etc/nftables.conf") == ("root", "root", 0o600)
    rules = json.loads(host.check_output("nft --json list table inet borough"))["nftables"]
    chains = {rule["chain"]["name"]: rule["chain"].get("policy") for rule in rules if "chain" in rule}
    assert (chains["input"], chains["forward"]) == ("drop", "drop")
    tables = {rule["table"]["name"] for rule in json.loads(host.check_output("nft --json list tables"))["nftables"][1:]}
    assert tables == {"borough"}
    assert host.service("borough-firewall-counters.timer").is_running


# services, node_common, identity


def test_services_have_users_of_their_own(host: Host) -> None:
    """Nobody can log in as one of them, and each has its groups only."""
    users = lines_of(host, "getent passwd | grep ^borough")
    assert len(users) >= 4
    assert {user.rpartition(":")[2] for user in users} == {"/usr/sbin/nologin"}
    assert lines_of(host, "getent shadow | grep ^borough | cut -d: -f2 | sort -u") in (["!*"], ["!"], ["*"])
    assert is_served(host, "borough.target")


def test_folders_are_guarded(node: Host) -> None:
    """Who shares a folder belongs to its group; the cordon is nobody's to remove."""
    assert guard_of(node, "/run/borough") == ("root", "borough", 0o3770)
    for folder in ("records", "keys"):
        assert guard_of(node, f"/var/lib/borough/{folder}") == ("borough-calls", "borough-records", 0o2770)
    assert lines_of(node, "find /var/lib/borough/records /var/lib/borough/keys -perm /007") == []
    assert sorted(node.user("borough-calls").groups) == ["borough", "borough-calls", "borough-records"]
    assert node.user("borough-asterisk").groups == ["borough-asterisk"]


def test_settings_are_rendered_and_no_service_can_change_them(host: Host) -> None:
    """Each file is root's and may be read by its service; nothing would be rendered anew."""
    assert lines_of(host, "find /etc/borough ! -user root -o -perm /022 -not -type l") == []
    modes = set(lines_of(host, "find /etc/borough/rendered -type f -printf '%m\\n'"))
    assert modes == {"640"}
    assert json.loads(lines_of(host, "borough node render --check --json")[-1])["changed"] == []


def test_keys_and_secrets_are_roots(host: Host) -> None:
    """And every certificate is one of the hub's authority."""
    for folder in (IDENTITY, "/etc/borough/secrets"):
        assert guard_of(host, folder) == ("root", "root", 0o700)
    private = f"find {IDENTITY} /etc/borough/secrets ( -name key.pem -o -path '*/secrets/*' ) -type f"
    assert set(lines_of(host, f"{private} -printf '%U %m\\n'".replace("(", r"\(").replace(")", r"\)"))) == {"0 600"}
    certificates = lines_of(host, f"ls {IDENTITY}/*/current/certificate.pem")
    assert len(certificates) >= 4
    verify = f"openssl verify -CAfile {IDENTITY}/authority.pem {' '.join(certificates)}"
    assert lines_of(host, verify) == [f"{path}: OK" for path in certificates]
    assert is_served(host, "borough-renew.timer")


def test_no_token_and_no_authority_is_left_on_a_node(node: Host) -> None:
    """A token is used up in memory; the authority's key never leaves the hub."""
    assert lines_of(node, "find /etc/borough /run/borough /root /tmp /var/tmp -xdev -iname '*token*'") == []
    assert not node.file("/var/lib/borough/identity").exists
    assert not node.file("/etc/borough/admin").exists


# observability


def test_figures_of_a_machine_stay_on_it(host: Host, region: RegionRehearsal) -> None:
    """Exporters listen on loopback; a node shows them to observers by a proxy with TLS."""
    assert is_served(host, "prometheus-node-exporter")
    assert host.socket("tcp://127.0.0.1:9100").is_listening
    assert not host.socket("tcp://0.0.0.0:9100").is_listening
    is_hub = address_of(host) == region.plan.hub.address
    assert host.socket(f"tcp://{address_of(host)}:9443").is_listening is not is_hub
    assert host.service("borough-machine-metrics.timer").is_running


def test_only_observers_run_prometheus(members: list[Host], hub_host: Host) -> None:
    """The first node and the hub, each on loopback."""
    assert [member.service("prometheus").is_running for member in members] == [True, False, False]
    for observer in (members[0], hub_host):
        assert observer.socket("tcp://127.0.0.1:9090").is_listening
        assert not observer.socket("tcp://0.0.0.0:9090").is_listening
        assert len(observer.file("/etc/prometheus/borough/rules").listdir()) >= 3
