"""What the role writes is what the programs take, and lets nobody but observers read."""

import configparser
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.observability.rendering import ROLE, render

NODES = ("in-south-1", "in-south-2", "in-south-3")
ADDRESSES = {"in-south-1": "10.77.0.11", "in-south-2": "10.77.0.12", "in-south-3": "10.77.0.13"}
DROPINS = ("prometheus.dropin", "exporter-exporter.dropin", "node-exporter.dropin", "borough-machine-metrics.service")
SANDBOX = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "PrivateDevices": "yes",
    "ProtectKernelModules": "yes",
    "RestrictNamespaces": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("rendered"))


def scrapes(config: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Job, target and labels of everything that is scraped."""
    for job in config["scrape_configs"]:
        for group in job["static_configs"]:
            for target in group["targets"]:
                yield job["job_name"], target, group["labels"]


def prometheus(rendered: Path, host: str) -> Mapping[str, Any]:
    config = yaml.safe_load((rendered / host / "prometheus.yml").read_text("utf-8"))
    assert isinstance(config, dict)
    return config


def settings(rendered: Path, host: str, name: str) -> Mapping[str, str]:
    """The section Service of a unit; of a key that comes several times the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((rendered / host / name).read_text("utf-8"))
    return dict(parser["Service"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed: apt-get install prometheus")
@pytest.mark.parametrize("host", ["hub-1", *NODES])
def test_prometheus_takes_its_settings(rendered: Path, host: str) -> None:
    file = rendered / host / "prometheus.yml"
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", file], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_region_is_scraped_over_tls_with_the_nodes_certificate(rendered: Path) -> None:
    config = prometheus(rendered, "in-south-1")
    for job in config["scrape_configs"]:
        if job["job_name"] == "prometheus":
            continue
        assert job["scheme"] == "https"
        assert set(job["tls_config"]) == {"ca_file", "cert_file", "key_file"}
        assert "insecure_skip_verify" not in str(job)
    assert config["global"]["external_labels"] == {"region": "in-south"}


def test_every_process_of_every_node_is_scraped_once(rendered: Path) -> None:
    found = [
        (job, labels["instance"], labels.get("worker"))
        for job, _, labels in scrapes(prometheus(rendered, "in-south-1"))
        if job != "prometheus"
    ]
    assert len(found) == len(set(found))
    jobs = ("node", "agent", "replication", "inference", "front_door")
    expected: set[tuple[str, str, str | None]] = {(job, node, None) for job in jobs for node in NODES}
    workers = {"in-south-1": 2, "in-south-2": 2, "in-south-3": 3}
    expected |= {("calls", node, str(number)) for node in NODES for number in range(1, workers[node] + 1)}
    assert set(found) == expected


def test_the_proxy_of_a_node_has_every_module_that_is_asked_for(rendered: Path) -> None:
    asked = {
        (target.partition(":")[0], labels["__param_module"])
        for job, target, labels in scrapes(prometheus(rendered, "in-south-1"))
        if job != "prometheus"
    }
    for node in NODES:
        modules = yaml.safe_load((rendered / node / "exporter-exporter.yml").read_text("utf-8"))["modules"]
        assert {module for address, module in asked if address == ADDRESSES[node]} == set(modules)
        assert all(module["http"]["address"] == "127.0.0.1" for module in modules.values())


def test_the_proxy_lets_in_only_observers_with_a_certificate(rendered: Path) -> None:
    for node in NODES:
        options = (rendered / node / "exporter-exporter.default").read_text("utf-8").split()
        assert f"-web.tls.listen-address={ADDRESSES[node]}:9443" in options
        assert "-web.tls.verify" in options
        assert "-web.tls.certmatch=^(in-south-1)$" in options
        allowed = [option.strip('"') for option in options if option.startswith("-allow.net=")]
        assert allowed == ["-allow.net=10.77.0.11/32", "-allow.net=127.0.0.1/32"]
        assert "-web.listen-address=127.0.0.1:9107" in options


def test_everything_else_listens_on_loopback(rendered: Path) -> None:
    for host in ("hub-1", *NODES):
        assert "--web.listen-address=127.0.0.1:9100" in (rendered / host / "node-exporter.default").read_text("utf-8")
        assert "--web.listen-address=127.0.0.1:9090" in (rendered / host / "prometheus.default").read_text("utf-8")


def test_the_hub_watches_only_itself(rendered: Path) -> None:
    targets = [target for _, target, _ in scrapes(prometheus(rendered, "hub-1"))]
    assert len(targets) == 5
    assert all(target.startswith("127.0.0.1:") for target in targets)


@pytest.mark.parametrize("name", DROPINS)
def test_every_unit_is_confined(rendered: Path, name: str) -> None:
    found = settings(rendered, "in-south-1", name)
    assert {key: found.get(key) for key in SANDBOX} == SANDBOX
    assert found["MemoryMax"]
    assert found["CPUWeight"] == "20"


def test_keys_come_as_credentials_and_room_is_bounded(rendered: Path) -> None:
    for name in ("prometheus.dropin", "exporter-exporter.dropin"):
        text = (rendered / "in-south-2" / name).read_text("utf-8")
        assert "LoadCredential=metrics.key:/etc/borough/identity/metrics/current/key.pem\n" in text
    assert "LoadCredential" not in (rendered / "hub-1" / "prometheus.dropin").read_text("utf-8")
    options = (rendered / "in-south-1" / "prometheus.default").read_text("utf-8")
    assert "--storage.tsdb.retention.time=30d" in options
    assert "--storage.tsdb.retention.size=4096MB" in options


def test_two_observers_watch_the_same_and_are_both_let_in(tmp_path: Path) -> None:
    rendered = render(tmp_path, observability_observers=["in-south-1", "in-south-3"])
    one, other = (list(scrapes(prometheus(rendered, host)))[1:] for host in ("in-south-1", "in-south-3"))
    assert one == other
    options = (rendered / "in-south-2" / "exporter-exporter.default").read_text("utf-8")
    assert "-web.tls.certmatch=^(in-south-1|in-south-3)$" in options
    assert "-allow.net=10.77.0.13/32" in options


def test_every_rule_and_dashboard_is_installed_somewhere() -> None:
    text = (ROLE / "vars" / "main.yml").read_text("utf-8")
    files = [path.relative_to(ROLE / "files").as_posix() for path in (ROLE / "files").rglob("*.*")]
    assert [name for name in files if name not in text] == []
