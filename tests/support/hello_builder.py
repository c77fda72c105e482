"""Makes ClientHellos, valid and invalid ones, and the records they are sent in."""

from collections.abc import Iterable, Sequence
from pathlib import Path

HELLOS = Path(__file__).parent.parent / "corpus" / "hellos"


def captured() -> dict[str, bytes]:
    """Hellos that real clients sent, by client: each in one record, as it came."""
    return {path.stem: bytes.fromhex(path.read_text()) for path in sorted(HELLOS.glob("*.hex"))}


def vector(size: int, data: bytes) -> bytes:
    """A vector: its length in `size` bytes, then its bytes."""
    return len(data).to_bytes(size) + data


def extension(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2) + vector(2, data)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, b"".join(bytes([kind]) + vector(2, name) for name in names)))


def alpn(*protocols: bytes) -> bytes:
    return extension(16, vector(2, b"".join(vector(1, protocol) for protocol in protocols)))


def versions(*numbers: int) -> bytes:
    return extension(43, vector(1, b"".join(number.to_bytes(2) for number in numbers)))


def ticket(data: bytes) -> bytes:
    return extension(35, data)


def shared_keys(identities: Sequence[bytes], binders: int | None = None) -> bytes:
    first = vector(2, b"".join(vector(2, identity) + bytes(4) for identity in identities))
    count = len(identities) if binders is None else binders
    return extension(41, first + vector(2, vector(1, bytes(32)) * count))


def hello(
    *extensions: bytes,
    legacy: int = 0x0303,
    session: bytes = bytes(32),
    suites: bytes = b"\x13\x01\xc0\x2b",
    compression: bytes = b"\0",
    kind: int = 1,
    behind: bytes = b"",
) -> bytes:
    """A handshake message; without extensions, it ends after the compression methods."""
    start = legacy.to_bytes(2) + bytes(32) + vector(1, session) + vector(2, suites) + vector(1, compression)
    body = start + (vector(2, b"".join(extensions)) if extensions else b"") + behind
    return bytes([kind]) + vector(3, body)


def records(message: bytes, sizes: Iterable[int] = (), *, version: int = 0x0301, kind: int = 22) -> bytes:
    """The message in records whose fragments have these sizes; the last one takes the rest, 16 KiB at a time."""
    made, rest = b"", message
    for size in sizes:
        if rest:
            made += bytes([kind]) + version.to_bytes(2) + vector(2, rest[:size])
            rest = rest[size:]
    for at in range(0, len(rest), 16384):
        made += bytes([kind]) + version.to_bytes(2) + vector(2, rest[at : at + 16384])
    return made
