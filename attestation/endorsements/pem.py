"""The encodings that services dress the same bytes in: PEM, percent-encoded PEM in headers, hexadecimal."""

import binascii
import re
from base64 import b64decode
from urllib.parse import unquote_to_bytes

from attestation.endorsements.errors import WrongDocumentError, judged
from attestation.endorsements.http import Response
from attestation.tdx.collateral import read_chain
from schemas.errors import Reason

_PEM_CRL = re.compile(
    rb"\s*-----BEGIN X509 CRL-----([A-Za-z0-9+/=\r\n]{1,400000})-----END X509 CRL-----\s*\0?"
)
_HEX = re.compile(rb"\s*((?:[0-9A-Fa-f]{2})+)\s*")


def certificates_in(pem: bytes, count: int, what: str) -> tuple[bytes, ...]:
    """Return exactly `count` certificates in DER out of PEM, in their order."""
    with judged(what):
        return tuple(certificate.encoded for certificate in read_chain(pem, count))


def chain_header(response: Response, names: tuple[str, ...], what: str) -> bytes:
    """Return the issuer chain of two certificates in the first header that is there, as PEM."""
    for name in names:
        if (value := response.headers.get(name.lower())) is not None:
            pem = unquote_to_bytes(value)
            certificates_in(pem, 2, what)
            return pem
    raise WrongDocumentError(Reason.CHAIN_INVALID, f"{what}: the answer has no header {names[0]}")


def crl_in(body: bytes, what: str) -> bytes:
    """Return a CRL in DER, out of DER, PEM or (as PCCS gives it) hexadecimal text."""
    if (match := _PEM_CRL.fullmatch(body)) is not None:
        try:
            return b64decode(b"".join(match[1].split()), validate=True)
        except binascii.Error as error:
            raise WrongDocumentError(Reason.MALFORMED, f"{what}: its PEM is not base64") from error
    if (match := _HEX.fullmatch(body)) is not None:
        return bytes.fromhex(match[1].decode("ascii"))
    return body
