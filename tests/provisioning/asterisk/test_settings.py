"""Settings that contradict themselves are refused with the key; rendered files carry what was set, and nothing more."""

from pathlib import Path

import pytest

from provisioning.asterisk.errors import AsteriskImageError, AsteriskSettingsError
from provisioning.asterisk.image import ImageRecipe, build_command, ensure_image, read_recipe
from provisioning.asterisk.modules import CARRIER_MODULES, NODE_MODULES
from provisioning.asterisk.render import render
from provisioning.asterisk.settings import (
    AsteriskSettings,
    CarrierDialplan,
    FrontDoor,
    NodeDialplan,
    PortRange,
    SipTransport,
    TrunkPeer,
)
from tests.asterisk_pair import require_asterisk

PEER = TrunkPeer(name="trunk", host="192.0.2.1")


def settings(
    *,
    peers: tuple[TrunkPeer, ...] = (PEER,),
    rtp_ports: PortRange | None = None,
    sip_port: int = 5060,
    dialplan: NodeDialplan | CarrierDialplan | None = None,
    codecs: tuple[str, ...] = ("ulaw",),
    external_address: str | None = None,
    local_networks: tuple[str, ...] = (),
    front_door: FrontDoor | None = None,
) -> AsteriskSettings:
    """A node that is valid unless told otherwise."""
    return AsteriskSettings(
        name="node",
        directory=Path("/nowhere"),
        dialplan=dialplan or NodeDialplan(stasis_apps=("calls-0", "calls-1", "calls-2")),
        sip_port=sip_port,
        http_port=8088,
        rtp_ports=rtp_ports or PortRange(first=20000, last=20100),
        peers=peers,
        codecs=codecs,
        external_address=external_address,
        local_networks=local_networks,
        front_door=front_door,
    )


def test_rtp_range_must_be_a_range() -> None:
    """First below last."""
    with pytest.raises(AsteriskSettingsError, match="rtp_ports"):
        settings(rtp_ports=PortRange(first=20100, last=20000))


def test_port_must_be_a_port() -> None:
    """1-65535."""
    with pytest.raises(AsteriskSettingsError, match="sip_port"):
        settings(sip_port=70000)


def test_unknown_codec_is_refused() -> None:
    """Asterisk would drop it silently and refuse every call."""
    with pytest.raises(AsteriskSettingsError, match="codecs"):
        settings(codecs=("ulaw", "g729"))


def test_public_address_is_given_to_peers_outside() -> None:
    """Behind NAT, SDP and Contact carry the outer address, but not towards the local networks."""
    text = render(settings(external_address="203.0.113.5", local_networks=("10.0.0.0/8",)))["pjsip.conf"]
    assert "external_media_address = 203.0.113.5" in text
    assert "local_net = 10.0.0.0/8" in text
    assert "external" not in render(settings())["pjsip.conf"]


def test_node_needs_a_worker() -> None:
    """Without a Stasis app every call would be refused."""
    with pytest.raises(AsteriskSettingsError, match="stasis_apps"):
        settings(dialplan=NodeDialplan(stasis_apps=()))


@pytest.mark.parametrize(
    "peers",
    [
        (PEER, PEER),
        (PEER, TrunkPeer(name="other", host="192.0.2.1")),
        (PEER, TrunkPeer(name="other", host="192.0.2.2", match=("192.0.2.1",))),
        (TrunkPeer(name="other", host="192.0.2.2", match=("not an address",)),),
    ],
)
def test_peers_must_be_told_apart(peers: tuple[TrunkPeer, ...]) -> None:
    """Calls are attributed by address, so an address belongs to one peer."""
    with pytest.raises(AsteriskSettingsError, match="peers"):
        settings(peers=peers)


SECURE = TrunkPeer(name="secure", host="192.0.2.9", port=5061, transport=SipTransport.TLS, srtp=True)
DOOR = FrontDoor(address="10.0.0.100", hosts=("10.0.0.11", "10.0.0.12"))


def test_behind_a_front_door_only_it_is_heard() -> None:
    """Trunks are told apart by the header that it writes, and calls go out through it."""
    text = render(settings(front_door=DOOR, peers=(PEER, SECURE)))["pjsip.conf"]
    assert "permit = 10.0.0.100/32\npermit = 10.0.0.11/32\npermit = 10.0.0.12/32" in text
    assert "match_header = X-Borough-Trunk: secure" in text
    assert "match = 10.0.0.100,10.0.0.11,10.0.0.12" in text
    assert "match = 192.0.2.1" not in text
    assert text.count("outbound_proxy = sip:10.0.0.100:5060\\;lr") == 2
    assert "endpoint_identifier_order = header,ip" in text


def test_srtp_is_demanded_where_a_trunk_has_it() -> None:
    """Not offered: demanded. And nowhere else."""
    text = render(settings(front_door=DOOR, peers=(PEER, SECURE)))["pjsip.conf"]
    assert text.count("media_encryption = sdes") == 1
    assert "media_encryption_optimistic = no" in text


@pytest.mark.parametrize(
    ("peer", "front_door"),
    [
        (TrunkPeer(name="plain", host="192.0.2.1", srtp=True), DOOR),
        (SECURE, None),
        (TrunkPeer(name="tcp", host="192.0.2.1", transport=SipTransport.TCP), None),
        (TrunkPeer(name="front-door", host="192.0.2.1"), DOOR),
        (TrunkPeer(name="two\r\nX-Evil: 1", host="192.0.2.1"), DOOR),
    ],
)
def test_trunks_that_cannot_work_are_refused(peer: TrunkPeer, front_door: FrontDoor | None) -> None:
    """SRTP without TLS, TLS or TCP without somebody who speaks it, names that are no names."""
    with pytest.raises(AsteriskSettingsError, match="peers"):
        settings(peers=(peer,), front_door=front_door)


def test_secret_is_generated_and_only_where_it_belongs() -> None:
    """Each instance has its own password; it is in ari.conf only and in no repr."""
    one, other = settings(), settings()
    assert one.ari.password != other.ari.password
    assert one.ari.password not in repr(one)
    assert [name for name, text in render(one).items() if one.ari.password in text] == ["ari.conf"]


def test_ari_listens_on_loopback_only() -> None:
    """Who reaches ARI owns every call."""
    assert "bindaddr = 127.0.0.1" in render(settings())["http.conf"]


def test_dialplan_offers_to_every_worker_and_does_not_answer() -> None:
    """One variable an app; the worker answers."""
    text = render(settings())["extensions.conf"]
    assert "APP_2 = calls-2" in text
    assert "% 3]" in text
    assert "Answer" not in text


def test_every_module_is_in_the_image() -> None:
    """A name that Asterisk does not have would be a warning in a log nobody reads."""
    root = require_asterisk()
    present = {path.stem for path in root.glob("usr/lib/*/asterisk/modules/*.so")}
    assert set(CARRIER_MODULES) | set(NODE_MODULES) <= present


def test_image_name_follows_its_recipe() -> None:
    """Another package list is another image."""
    recipe = read_recipe()
    assert recipe.packages[0] == "asterisk"
    assert ImageRecipe(suite="sid", packages=("asterisk", "sox")).digest != recipe.digest
    assert build_command(recipe, Path("/root-of-it"), "http://m/debian")[-3:] == [
        "sid",
        "/root-of-it",
        "http://m/debian",
    ]


def test_recipe_without_packages_is_refused(tmp_path: Path) -> None:
    """The error says how to get them back."""
    (tmp_path / "suite.txt").write_text("sid\n")
    (tmp_path / "packages.txt").write_text("# nothing\n")
    with pytest.raises(AsteriskImageError) as refused:
        read_recipe(tmp_path)
    assert "git checkout" in refused.value.hint


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    """A suite that does not exist: an error with mmdebstrap's words, and no half image."""
    require_asterisk()
    with pytest.raises(AsteriskImageError, match="mmdebstrap failed"):
        ensure_image(ImageRecipe(suite="no-such-suite", packages=("asterisk",)), state_directory=tmp_path)
    assert list(tmp_path.iterdir()) == []
