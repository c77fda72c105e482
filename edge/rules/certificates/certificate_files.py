"""Certificates in a directory of files: which files belong together, and which certificate serves which name.

    NAME.pem and NAME.key    a certificate with its issuers, and its private key
    NAME.pem alone           a bundle of both

The names that are served are those in the certificates; names of files are only names. If several certificates of
one kind cover a name, the one that ends last serves it, so that a new one may lie beside the old one.
"""

from collections.abc import Iterable, Mapping, Sequence
from heapq import nsmallest
from typing import Final, NamedTuple

from edge.rules.certificates.certificate_checks import PROTOCOLS
from edge.rules.certificates.certificate_names import wildcard_of
from edge.rules.certificates.certificates import Certificate, KeyKind, KeyPair

CHAIN, KEY = ".pem", ".key"
MOST_PAIRS: Final = 1_000_000
"Pairs in one directory; those beyond it, in the order of their names, are not read."


class PairOfFiles(NamedTuple):
    """Files that belong together."""

    name: str
    "Without the ending."
    chain: str
    key: str
    "The same file as `chain` for a bundle."


class FoundFiles(NamedTuple):
    """The content of a directory."""

    pairs: list[PairOfFiles]
    "In the order of their names."
    without_chain: list[str]
    "Keys without a certificate."
    beyond: int
    "Pairs beyond the limit, which are not read."


def pairs_in(names: Iterable[str], most: int = MOST_PAIRS) -> FoundFiles:
    """The pairs among these names of files. Others are ignored, and so are hidden ones."""
    visible = [name for name in names if not name.startswith(".")]
    keys = {name.removesuffix(KEY) for name in visible if name.endswith(KEY)}
    chains = {name.removesuffix(CHAIN) for name in visible if name.endswith(CHAIN)}
    pairs = [
        PairOfFiles(name, name + CHAIN, name + (KEY if name in keys else CHAIN)) for name in sorted(chains) if name
    ]
    return FoundFiles(pairs[:most], sorted(name + KEY for name in keys - chains), max(0, len(pairs) - most))


class CertificateSet:
    """The certificates of a directory by name. It is replaced as a whole, and never changes."""

    __slots__ = ("_by_name", "count")

    def __init__(self, by_name: Mapping[str, Certificate], count: int) -> None:
        self._by_name = by_name
        self.count = count
        "Pairs of files that are in use."

    def __len__(self) -> int:
        return len(self._by_name)

    def find(self, hostname: str, wall: float) -> Certificate | None:
        """The certificate of a name at `wall`, seconds since the epoch: its own, else that of the wildcard that
        covers it. None = there is none, or it has ended."""
        for name in (hostname, wildcard_of(hostname)):
            found = self._by_name.get(name)
            if found is not None and wall < found.not_after:
                return found
        return None

    def same(self, pairs: tuple[KeyPair, ...], names: Sequence[str]) -> Certificate | None:
        """The certificate of exactly these pairs and names, if it is in this set."""
        found = self._by_name.get(names[0])
        return found if found is not None and found.pairs == pairs and found.names == tuple(names) else None

    def dropped_since(self, before: "CertificateSet") -> list[str]:
        """The names that were served before and are not any more, not by a wildcard either. Takes milliseconds for
        100,000 names."""
        mine = self._by_name
        return [name for name in before._by_name if name not in mine and wildcard_of(name) not in mine]

    def ending_first(self, most: int) -> list[Certificate]:
        """The certificates that end first, in this order; at most so many. Takes milliseconds for 100,000 names."""
        each = (found for name, found in self._by_name.items() if found.names[0] == name)
        return nsmallest(most, each, key=lambda found: found.not_after)


NO_CERTIFICATES: Final = CertificateSet({}, 0)


def certificate_set(
    found: Iterable[tuple[KeyPair, Iterable[str]]], before: CertificateSet = NO_CERTIFICATES
) -> CertificateSet:
    """Put certificates, each with the names that it covers, together by name. Names whose certificates are the same
    objects as in `before` keep theirs, so that their TLS contexts remain."""
    best: dict[str, dict[KeyKind, KeyPair]] = {}
    count = 0
    for pair, covered in found:
        count += 1
        for name in covered:
            kinds = best.setdefault(name, {})
            other = kinds.get(pair.kind)
            if other is None or pair.not_after > other.not_after:
                kinds[pair.kind] = pair
    together: dict[tuple[KeyPair, ...], list[str]] = {}
    for name, kinds in best.items():
        together.setdefault(tuple(kinds[kind] for kind in KeyKind if kind in kinds), []).append(name)
    by_name: dict[str, Certificate] = {}
    for pairs, names in together.items():
        names.sort()
        certificate = before.same(pairs, names) or Certificate(tuple(names), pairs, PROTOCOLS)
        by_name.update(dict.fromkeys(names, certificate))
    return CertificateSet(by_name, count)
