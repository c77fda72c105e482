"""Certificates in the form in which a worker keeps them: as DER, 1 KiB each, with their issuers shared.

A ready TLS context takes 25 KiB, so only the names in use have one. All others are kept like this.
"""

from base64 import encodebytes
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from cachetools import LRUCache

_OVERHEAD: Final = 600
"Bytes of the objects of one certificate, besides its contents and names."
_OVERHEAD_OF_NAME: Final = 150
_SHARED_CHAINS: Final = 1000


class KeyKind(StrEnum):
    """The kind of a certificate's key. A client supports one of them or both."""

    ECDSA = "ecdsa"
    RSA = "rsa"


class KeyPair:
    """A certificate with its issuers and its private key."""

    __slots__ = ("issuers", "key", "kind", "leaf", "not_after", "not_before")

    def __init__(
        self, kind: KeyKind, leaf: bytes, issuers: tuple[bytes, ...], key: bytes, dates: tuple[float, float]
    ) -> None:
        self.kind = kind
        self.leaf = leaf
        "The certificate, in DER."
        self.issuers = issuers
        "Those of its issuers that are sent with it, in DER and in order."
        self.key = key
        "The private key: PKCS #8 in DER."
        self.not_before, self.not_after = dates

    def __repr__(self) -> str:
        return f"<KeyPair {self.kind} until {self.not_after:.0f}>"

    def is_same(self, other: "KeyPair") -> bool:
        """Whether both are the same certificate with the same issuers and key."""
        return (self.leaf, self.issuers, self.key) == (other.leaf, other.issuers, other.key)

    def chain_pem(self) -> bytes:
        """The certificate and its issuers, as PEM."""
        return b"".join(_pem(b"CERTIFICATE", data) for data in (self.leaf, *self.issuers))

    def key_pem(self) -> bytes:
        """The private key, as PEM."""
        return _pem(b"PRIVATE KEY", self.key)


def _pem(label: bytes, data: bytes) -> bytes:
    """RFC 7468, in lines of 76 characters, which its readers have to accept."""
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label, encodebytes(data), label)


class Certificate:
    """What is served for some names: an ECDSA or an RSA certificate, or one of each. It never changes, so that a
    TLS context can be kept by it."""

    __slots__ = ("alpn", "generation", "names", "not_after", "not_before", "pairs")

    def __init__(
        self, names: tuple[str, ...], pairs: tuple[KeyPair, ...], alpn: tuple[str, ...], generation: int = 0
    ) -> None:
        self.names = names
        "Hostnames and wildcards in canonical form, all covered by each of its certificates."
        self.pairs = pairs
        "The ECDSA one first, if there are two."
        self.alpn = alpn
        "The protocols that clients may choose, in the order of preference (RFC 7301)."
        self.generation = generation
        self.not_before = max(pair.not_before for pair in pairs)
        self.not_after = min(pair.not_after for pair in pairs)
        "Seconds since the epoch from which on it must not be used."

    def __repr__(self) -> str:
        return f"<Certificate {', '.join(self.names[:3])}: {', '.join(pair.kind for pair in self.pairs)}>"

    def is_same(self, other: "Certificate") -> bool:
        """Whether nothing that a client or a TLS context sees differs."""
        mine, others = (self.names, self.alpn, len(self.pairs)), (other.names, other.alpn, len(other.pairs))
        return mine == others and all(a.is_same(b) for a, b in zip(self.pairs, other.pairs, strict=True))

    @property
    def size(self) -> int:
        """Bytes that it takes, without its issuers, which it shares with others."""
        names = sum(len(name) + _OVERHEAD_OF_NAME for name in self.names)
        return names + sum(len(pair.leaf) + len(pair.key) + _OVERHEAD for pair in self.pairs)


class Issuers(NamedTuple):
    """The issuers that are sent with a certificate."""

    chain: tuple[bytes, ...]
    "In DER and in order."
    subject: object
    "The subject of the first one; None = there is none."


class SharedChains:
    """Keeps one copy of the issuers that many certificates have: a few chains stand for nearly all certificates."""

    __slots__ = ("_chains", "parsed")

    def __init__(self, limit: int = _SHARED_CHAINS) -> None:
        """`limit`: chains that are remembered. Certificates with others keep a copy of their own."""
        self._chains: LRUCache[tuple[bytes, ...], tuple[bytes, ...]] = LRUCache(limit)
        self.parsed: LRUCache[bytes, Issuers] = LRUCache(limit)
        "Issuers that have been read and checked, by the text that they were read from."

    def __len__(self) -> int:
        return len(self._chains)

    def share(self, issuers: Iterable[bytes]) -> tuple[bytes, ...]:
        """The same issuers, as the copy that others have already."""
        chain = tuple(issuers)
        found = self._chains.get(chain)
        if found is None:
            found = self._chains[chain] = chain
        return found
