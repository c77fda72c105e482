"""The corpus: messages written by hand, one file for each rule, and what must become of them.

    tests/corpus/requests/*.yaml    what clients send
    tests/corpus/responses/*.yaml     what backends send

A file says its `rule` in words and where the rule comes from (`source`); then its `hostile` cases, which must
be refused, and its `legal` ones, which must arrive as they are. `bytes` is a string, taken as Latin-1, or a list
of strings and of {repeat: "x", times: 9000}. What the other members mean stands at the attributes of `Case`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

CORPUS = Path(__file__).parent
PLAIN_REQUEST = b"GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n"
LONG = 64
"Bytes of a repetition from which on it is not worth to cut at every byte."
NEAR, SPREAD = 3, 8
"So near to the ends of a long repetition every cut is made; within it, so many in all."

Expected = Mapping[str, tuple[bytes, ...]]
"Values by lower-case name; none = the field must not be there."


@dataclass(frozen=True, kw_only=True)
class Case:
    """One message, or one sequence of them on one connection."""

    name: str
    file: str
    'Without its ending: "requests/chunk_sizes".'
    kind: str
    '"request" or "response"'
    hostile: bool
    data: bytes
    status: int | None
    """Hostile: what the client gets. 200 to a bad response: it passes, but its connection is never used again.
    Legal: the status of the response to the first request, if it is not the backend's usual 200."""
    repeats: tuple[tuple[int, int], ...] = ()
    "Where the long repetitions in `data` begin and end."
    reason: str = ""
    "X-Styx-Error, if the status does not say it."
    before: int = 0
    "Hostile requests: whole legal requests in front of the hostile one, which get their response as always."
    target: bytes | None = None
    "Legal requests: the target with which the first one arrives, if it is another."
    arrives: Expected | None = None
    "Fields of the first message, if it is legal, that arrive with other values or not at all."
    trailers: Expected | None = None
    "The same for its trailers."
    own: bool = False
    "Legal requests: the edge responds to the first one itself, without an error."
    response: bytes | None = None
    "Requests: the response of the backend to the first one, instead of its usual one."
    tunnel: bytes | None = None
    "Legal requests: what reaches the backend behind the request, as raw bytes."
    request: bytes = PLAIN_REQUEST
    "Responses: the request that gets it."
    closes: bool = False
    "Responses: the backend closes behind them. Legal requests: the edge closes, though they do not ask for it."
    cut: bool = False
    "Hostile responses: the fault is in the body; who was told the head already sees the connection end."

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    @property
    def cuts(self) -> list[int]:
        """Where to cut `data` in two: everywhere; but of long repetitions near their ends, and here and there."""
        every = set(range(1, len(self.data)))
        for begin, end in self.repeats:
            step = max(1, (end - begin) // SPREAD)
            every -= set(range(begin + NEAR, end - NEAR)) - set(range(begin, end, step))
        return sorted(every)

    @property
    def single_bytes(self) -> list[bytes]:
        """`data` byte by byte; long repetitions in pieces."""
        cuts = [0, *self.cuts, len(self.data)]
        return [self.data[a:b] for a, b in pairwise(cuts)]


class CorpusError(Exception):
    """A file of the corpus is not as it must be."""


class _Strict(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Refuses a key that is there twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise CorpusError(f"{node.start_mark}: {key!r} is there twice")
        return super().construct_mapping(node, deep)


_FILE = {"rule", "source", "hostile", "legal"}
_ALWAYS = {"name", "bytes"}
_KEYS = {
    ("request", True): {"status", "reason", "before", "arrives"},
    ("request", False): {"status", "target", "arrives", "trailers", "own", "response", "tunnel", "closes"},
    ("response", True): {"request", "status", "reason", "closes", "cut"},
    ("response", False): {"request", "status", "arrives", "trailers", "closes"},
}
_STATUS = {"request": 400, "response": 502}


def load_corpus(kind: str = "", directory: Path = CORPUS) -> list[Case]:
    """All cases of all files there, or those of one kind. Raises CorpusError."""
    return [case for path in sorted(directory.glob(f"{kind}*/*.yaml")) for case in _cases_of(path)]


@cache
def _cases_of(path: Path) -> tuple[Case, ...]:
    return tuple(_cases(path))


def _cases(path: Path) -> Iterator[Case]:
    kind = path.parent.name.removesuffix("s")
    file = f"{path.parent.name}/{path.stem}"
    loaded = yaml.load(path.read_text("utf-8"), _Strict)
    if not isinstance(loaded, dict) or set(loaded) - _FILE or not {"rule", "source"} <= set(loaded):
        raise CorpusError(f"{file}: a file has {sorted(_FILE)}")
    seen = set()
    for verdict in ("hostile", "legal"):
        for entry in loaded.get(verdict, ()):
            case = _case(file, kind, verdict == "hostile", entry)
            if case.name in seen:
                raise CorpusError(f"{case}: there are two of this name")
            seen.add(case.name)
            yield case


def _case(file: str, kind: str, hostile: bool, entry: dict[str, Any]) -> Case:
    where = f"{file}: {entry.get('name')}"
    members = dict(entry)
    unknown = set(members) - _ALWAYS - _KEYS[kind, hostile]
    if unknown or not set(members) >= _ALWAYS:
        raise CorpusError(f"{where}: unknown {sorted(unknown)}, or no name or bytes")
    data, repeats = _joined(members.pop("bytes"))
    status = members.pop("status", _STATUS[kind] if hostile else None)
    for name in ("target", "tunnel", "response", "request"):
        if name in members:
            members[name] = _joined(members[name])[0]
    for name in ("arrives", "trailers"):
        if name in members:
            members[name] = {key: _values(value) for key, value in members[name].items()}
            if any(key != key.lower() for key in members[name]):
                raise CorpusError(f"{where}: names in {name} are lower-case")
    return Case(file=file, kind=kind, hostile=hostile, data=data, repeats=repeats, status=status, **members)


def _joined(written: Any) -> tuple[bytes, tuple[tuple[int, int], ...]]:
    """The bytes of a string or of a list of parts, and the long repetitions in them."""
    data = bytearray()
    repeats = []
    for part in written if isinstance(written, list) else [written]:
        if isinstance(part, dict):
            if set(part) != {"repeat", "times"}:
                raise CorpusError(f"not a part of a message: {part}")
            begin = len(data)
            data += part["repeat"].encode("latin-1") * part["times"]
            if len(data) - begin >= LONG:
                repeats.append((begin, len(data)))
        else:
            data += part.encode("latin-1")
    return bytes(data), tuple(repeats)


def _values(written: Any) -> tuple[bytes, ...]:
    if written is None:
        return ()
    return tuple(value.encode("latin-1") for value in (written if isinstance(written, list) else [written]))
