"""Finds the hub's authority by the fingerprint in the token, before anything secret is sent."""

import asyncio
import ssl
import sys

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from provisioning.node.enrolment.token import Token, fingerprint_of
from provisioning.node.errors import EnrolmentError

WITHIN_S = 10.0


async def pinned_authority(host: str, port: int, token: Token) -> bytes:
    """The authority's certificate (PEM) as the hub shows it, if it is the one of the token. Raises EnrolmentError.

    Nothing is believed yet of whoever showed it: it is the only root of the connection that follows.
    """
    chain = await shown_chain(host, port)
    for certificate in chain:
        if fingerprint_of(certificate) == token.fingerprint:
            return x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM)
    raise EnrolmentError(
        f"{host}:{port} is not the hub that made this token: none of the {len(chain)} certificates it shows is the"
        f" authority {token.fingerprint}; the token was not sent",
        hint="Is --hub right? If so somebody stands between this machine and the hub: revoke the token.",
    )


async def shown_chain(host: str, port: int) -> list[bytes]:
    """The certificates (DER) that a TLS server shows, unverified. Raises EnrolmentError when it cannot be reached."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(WITHIN_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    except TimeoutError:
        raise EnrolmentError(
            f"{host}:{port} did not answer within {WITHIN_S:.0f} s",
            hint="Does the hub's firewall let this machine in (borough_regions in its inventory)?",
        ) from None
    except (OSError, ssl.SSLError) as error:
        raise EnrolmentError(
            f"{host}:{port} cannot be reached: {error}", hint="Is --hub right, and does borough-controlplane run there?"
        ) from error
    try:
        return _chain(writer.get_extra_info("ssl_object"))
    finally:
        writer.transport.abort()


def _chain(connection: ssl.SSLObject) -> list[bytes]:
    if sys.version_info >= (3, 13):
        return list(connection.get_unverified_chain())
    # The same, before it had a public name.
    shown = connection._sslobj.get_unverified_chain()  # type: ignore[attr-defined]  # noqa: SLF001
    return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in shown]
