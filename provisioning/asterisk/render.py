"""Turns settings into Asterisk's configuration files. Pure: text out, nothing written."""

from collections.abc import Iterable, Mapping

from provisioning.asterisk.dialplan import carrier_dialplan, node_dialplan
from provisioning.asterisk.modules import CARRIER_MODULES, NODE_MODULES
from provisioning.asterisk.settings import (
    FRONT_DOOR_NAME,
    TRUNK_HEADER,
    AriAccess,
    AsteriskSettings,
    FrontDoor,
    NodeDialplan,
    SipTransport,
    TlsListener,
    TrunkPeer,
)

# Where the instance's directory is seen inside the image.
INSIDE = "/srv"
# Media and event sockets each hold a session; Asterisk's own default of 100 is a silent cap on calls.
HTTP_SESSIONS = 4000
# Longer than the ARI client keeps an idle connection, so that it never writes into one being closed.
HTTP_KEEP_ALIVE_MS = 120_000
HTTP_INACTIVITY_MS = 30_000
SESSION_EXPIRES_S = 1800
# A caller on hold may send nothing; a dead one is found here at last.
RTP_TIMEOUT_HOLD_S = 600


def render(settings: AsteriskSettings) -> Mapping[str, str]:
    """Return file name -> content of everything under the instance's `etc`."""
    is_node = isinstance(settings.dialplan, NodeDialplan)
    return {
        "asterisk.conf": _asterisk(settings),
        "modules.conf": _modules(NODE_MODULES if is_node else CARRIER_MODULES),
        "logger.conf": _section("general", {"dateformat": "%F %T.%3q"})
        + _section("logfiles", {}, ["messages.log => notice,warning,error"]),
        "http.conf": _section(
            "general",
            {
                "enabled": "yes",
                "enable_static": "no",
                "servername": "",
                # Loopback only: who reaches this port can take over every call.
                "bindaddr": "127.0.0.1",
                "bindport": settings.http_port,
                "sessionlimit": HTTP_SESSIONS,
                "session_keep_alive": HTTP_KEEP_ALIVE_MS,
                "session_inactivity": HTTP_INACTIVITY_MS,
            },
        ),
        "ari.conf": ari_configuration(settings.ari),
        "chan_websocket.conf": _section("global", {"type": "global", "control_message_format": "json"}),
        "websocket_client.conf": "; Workers connect to us, never the other way round.\n",
        "rtp.conf": _section(
            "general",
            {
                "rtpstart": settings.rtp_ports.first,
                "rtpend": settings.rtp_ports.last,
                "strictrtp": "yes",
                "icesupport": "no",
            },
        ),
        "manager.conf": _section("general", {"enabled": "no"}),
        "cdr.conf": _section("general", {"enable": "no"}),
        "cel.conf": _section("general", {"enable": "no"}),
        "pjproject.conf": "",
        "stasis.conf": "",
        "features.conf": "",
        "codecs.conf": "",
        "ccss.conf": "",
        "udptl.conf": "",
        "acl.conf": "",
        "indications.conf": _section("general", {"country": "us"})
        + _section("us", {"description": "United States", "ringcadence": "2000,4000", "ring": "440+480/2000,0/4000"}),
        "pjsip.conf": _pjsip(settings),
        "extensions.conf": node_dialplan(settings.dialplan)
        if isinstance(settings.dialplan, NodeDialplan)
        else carrier_dialplan(settings.dialplan),
    }


def ari_configuration(access: AriAccess) -> str:
    """ari.conf, the one file that holds a secret."""
    return _section("general", {"enabled": "yes", "pretty": "no"}) + _section(
        access.user, {"type": "user", "read_only": "no", "password_format": "plain", "password": access.password}
    )


def _asterisk(settings: AsteriskSettings) -> str:
    directories = {
        "astetcdir": f"{INSIDE}/etc",
        "astrundir": f"{INSIDE}/run",
        "astlogdir": f"{INSIDE}/log",
        "astspooldir": f"{INSIDE}/spool",
        "astdbdir": f"{INSIDE}/lib",
        "astkeydir": "/usr/share/asterisk",
        "astvarlibdir": "/usr/share/asterisk",
        "astdatadir": "/usr/share/asterisk",
        "astagidir": "/usr/share/asterisk/agi-bin",
    }
    options = {
        # Makes channel ids unique across the nodes of a region: they name calls.
        "systemname": settings.name,
        "nocolor": "yes",
        "live_dangerously": "no",
        "internal_timing": "yes",
    }
    lines = ["[directories]", *(f"{key} => {value}" for key, value in directories.items())]
    return "\n".join(lines) + "\n" + _section("options", options)


def _modules(names: Iterable[str]) -> str:
    return _section("modules", {"autoload": "no"}, [f"load = {name}.so" for name in names])


def _pjsip(settings: AsteriskSettings) -> str:
    door = settings.front_door
    order = "ip" if door is None else "header,ip"
    head = _section("global", {"type": "global", "user_agent": "Borough", "endpoint_identifier_order": order})
    head += _section("system", {"type": "system", "disable_tcp_switch": "yes"})
    transport = {
        "type": "transport",
        "protocol": "udp",
        "bind": f"{settings.sip_host}:{settings.sip_port}",
        "tos": "cs3",
    }
    if settings.external_address is not None:
        transport |= {
            "external_media_address": settings.external_address,
            "external_signaling_address": settings.external_address,
        }
    head += _section("transport-udp", transport, [f"local_net = {network}" for network in settings.local_networks])
    if settings.tls is not None:
        head += _tls_transport(settings.sip_host, settings.tls)
    if door is not None:
        head += _front_door(door)
    return head + "".join(_peer(settings, peer) for peer in settings.peers)


def _tls_transport(host: str, listener: TlsListener) -> str:
    values = {
        "type": "transport",
        "protocol": "tls",
        "bind": f"{host}:{listener.port}",
        "method": "tlsv1_2",
        "cert_file": listener.certificate,
        "priv_key_file": listener.key,
        "ca_list_file": listener.authorities,
        "verify_server": "yes",
        "tos": "cs3",
    }
    return _section("transport-tls", values)


def _front_door(door: FrontDoor) -> str:
    """Who else sends gets no answer; the front door itself may ask whether we live, and call nobody."""
    permits = [f"permit = {_network(address)}" for address in door.addresses]
    acl = _section("front-door-acl", {"type": "acl"}, ["deny = 0.0.0.0/0", "deny = ::/0", *permits])
    endpoint = {"type": "endpoint", "transport": "transport-udp", "context": "nowhere", "disallow": "all"}
    endpoint |= {"allow": "ulaw", "identify_by": "ip", "allow_subscribe": "no", "allow_transfer": "no"}
    identify = {"type": "identify", "endpoint": FRONT_DOOR_NAME, "match": ",".join(door.addresses)}
    return acl + _section(FRONT_DOOR_NAME, endpoint) + _section(f"{FRONT_DOOR_NAME}-identify", identify)


def _network(address: str) -> str:
    return f"{address}/128" if ":" in address else f"{address}/32"


def _peer(settings: AsteriskSettings, peer: TrunkPeer) -> str:
    door = settings.front_door
    is_direct_tls = door is None and peer.transport is SipTransport.TLS
    endpoint = {
        "type": "endpoint",
        "transport": "transport-tls" if is_direct_tls else "transport-udp",
        "context": "incoming",
        "disallow": "all",
        "allow": ",".join(settings.codecs),
        "aors": peer.name,
        "identify_by": "ip" if door is None else "header",
        # Audio must pass through us: we listen to it.
        "direct_media": "no",
        "rtp_symmetric": "yes",
        "force_rport": "yes",
        "dtmf_mode": "rfc4733",
        "trust_id_inbound": "yes",
        "rtp_timeout": settings.rtp_timeout_s,
        "rtp_timeout_hold": RTP_TIMEOUT_HOLD_S,
        "timers": "yes",
        "timers_sess_expires": SESSION_EXPIRES_S,
        "tos_audio": "ef",
        # Human agents are rung through the trunk; what they send back must not reach a transfer of ours.
        "allow_transfer": "no",
        "allow_subscribe": "no",
    }
    if peer.srtp:
        endpoint |= {"media_encryption": "sdes", "media_encryption_optimistic": "no"}
    if door is not None:
        endpoint |= {"outbound_proxy": f"sip:{_uri_host(door.address)}:{door.port}\\;lr"}
    transport = "\\;transport=tls" if is_direct_tls else ""
    aor = {
        "type": "aor",
        "contact": f"sip:{_uri_host(peer.host)}:{peer.port}{transport}",
        # The front door watches, where there is one.
        "qualify_frequency": peer.qualify_interval_s if door is None else 0,
        "qualify_timeout": "2.0",
    }
    return (
        _section(peer.name, endpoint)
        + _section(peer.name, aor)
        + _section(f"{peer.name}-identify", {"type": "identify", "endpoint": peer.name} | _recognised_by(door, peer))
    )


def _recognised_by(door: FrontDoor | None, peer: TrunkPeer) -> dict[str, str]:
    if door is None:
        return {"match": ",".join((peer.host, *peer.match))}
    return {"match_header": f"{TRUNK_HEADER}: {peer.name}"}


def _uri_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _section(name: str, values: Mapping[str, object], lines: Iterable[str] = ()) -> str:
    body = [f"[{name}]", *(f"{key} = {value}" for key, value in values.items()), *lines]
    return "\n".join(body) + "\n\n"
