"""The certificates of a hostname as the core API sends them: records without logic."""

from typing import Annotated

import msgspec


class ChainAndKey(msgspec.Struct, frozen=True):
    """A certificate with its issuers, and its private key, both as PEM."""

    chain: str
    key: str

    def __repr__(self) -> str:
        return f"ChainAndKey({len(self.chain)} characters, key not shown)"


class CertificateResponse(msgspec.Struct, frozen=True):
    """The body of `GET /v1/certificates/{hostname}`. Unknown members are ignored."""

    names: tuple[str, ...]
    "The hostnames and wildcards for which it may be used."
    generation: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    certificates: tuple[ChainAndKey, ...]
    "One ECDSA or one RSA certificate, or one of each."
    alpn: tuple[str, ...] = ("h2", "http/1.1")
