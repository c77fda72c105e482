"""Reader of the ClientHello, the first message of a TLS connection (RFC 8446, section 4.1.2; RFC 5246, 7.4.1.2).

    record: type 22, version, length, fragment     the message may be cut over many records, of a byte each
      ClientHello: version, random, session id, cipher suites, compression, extensions

It is read before OpenSSL gets it, for the name whose certificate is needed. OpenSSL reads the same bytes again and
decides about versions, ciphers and the like. So whatever two readers could understand differently is refused here:
lengths that do not agree, an extension given twice, a second name, other records in between, bytes after the end.
"""

from collections.abc import Iterable
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from edge.rules.certificates.certificate_names import hostname_in

LIMIT: Final = 65536
"Bytes of a hello with its record headers. Hellos with post-quantum key shares have below 2 KiB, with tickets 4."
MAX_FRAGMENT: Final = 16384
"Bytes of the fragment of one record (RFC 8446, section 5.1)."
TICKET_NAME: Final = 16
"Bytes at the beginning of a ticket that name its key (RFC 5077, section 4; OpenSSL does so in all versions)."
TLS_1_3: Final = 0x0304
NAMES_REMEMBERED: Final = 1024
"Names in hellos that are remembered; of at most 260 bytes."
USUAL_LIST: Final = 64
"Bytes of a list of protocols or versions up to which it is remembered."
LISTS_REMEMBERED: Final = 256

_HANDSHAKE: Final = 22
_TLS_TYPES: Final = frozenset({20, 21, 23, 24})
"Other types of records: change_cipher_spec, alert, application_data, heartbeat."
_CLIENT_HELLO: Final = 1
_HEADER: Final = 5
_LONGEST_METHOD: Final = 24
"Characters of a method of HTTP; the longest registered one, UPDATEREDIRECTREF, has 17."
_LONGEST_NAME: Final = 255
"""Bytes of a name. OpenSSL refuses longer ones, and those with a NUL, with the same alert. At names that are not
ASCII, as they must be (RFC 6066, section 3), Python's callback fails, with a traceback on standard error."""
HTTP_1_0: Final = b"http/1.0"
_SERVER_NAME, _ALPN, _SESSION_TICKET, _PRE_SHARED_KEY, _SUPPORTED_VERSIONS = 0, 16, 35, 41, 43


class Alert(IntEnum):
    """Alerts with which a handshake is refused (RFC 8446, section 6.2; RFC 7301, section 3.2)."""

    UNEXPECTED_MESSAGE = 10
    RECORD_OVERFLOW = 22
    ILLEGAL_PARAMETER = 47
    DECODE_ERROR = 50
    PROTOCOL_VERSION = 70
    INTERNAL_ERROR = 80
    UNRECOGNIZED_NAME = 112
    NO_APPLICATION_PROTOCOL = 120


def alert_record(alert: int) -> bytes:
    """A fatal alert as it is sent before a version is chosen (RFC 8446, sections 5.1 and 6)."""
    return bytes((21, 3, 1, 0, 2, 2, alert))


class BadClientHello(ValueError):
    """The connection begins with TLS, but not with a valid hello. `alert`: to send before it is closed."""

    def __init__(self, alert: Alert, reason: str) -> None:
        super().__init__(reason)
        self.alert = alert


class OtherProtocol(StrEnum):
    """What a connection without TLS begins with."""

    HTTP = "plain HTTP"
    "A method of HTTP and a space: a response in plain HTTP will be understood."
    SSL_2 = "SSL 2.0"
    "A hello of SSL 2.0, which must not be accepted (RFC 6176)."
    UNKNOWN = "an unknown protocol"


class NotTls(ValueError):
    """The connection does not begin with TLS. No alert would be understood."""

    def __init__(self, protocol: OtherProtocol) -> None:
        super().__init__(protocol.value)
        self.protocol = protocol


class ClientHello(NamedTuple):
    """What a client asks for."""

    server_name: str | None
    """The hostname in server_name, in lower case without a dot at its end. None = no name, or one that is no
    hostname, such as an address (which RFC 6066, section 3, does not permit)."""
    alpn: tuple[bytes, ...]
    "The protocols that it offers (RFC 7301), in its order."
    versions: tuple[int, ...]
    "Those in supported_versions, in its order. Without it the legacy version alone: that one or an older one."
    ticket: bytes
    """The first 16 bytes of the ticket that it offers: of the first identity in pre_shared_key (TLS 1.3), else of
    session_ticket. Empty = none; shorter = not one of ours."""

    def shares_protocol(self, served: Iterable[str]) -> bool:
        """Whether the client can speak one of these protocols. One that names none by ALPN is taken to speak HTTP;
        so is one that names HTTP/1.0, which is served, though it is not among those that can be chosen."""
        return not self.alpn or HTTP_1_0 in self.alpn or any(name.encode("ascii") in self.alpn for name in served)


class ClientHelloReader:
    """Reads the ClientHello of one connection."""

    __slots__ = ("_at", "_failure", "_hello", "_limit", "_message", "data")

    def __init__(self, limit: int = LIMIT) -> None:
        """`limit`: bytes, with the headers of records, at which a hello without an end is refused."""
        self._limit = limit
        self.data = bytearray()
        "All bytes received: OpenSSL gets them once the certificate is there. Behind the hello may be early data."
        self._at = 0
        "Where the next record begins."
        self._message = bytearray()
        "The fragments of the records so far."
        self._hello: ClientHello | None = None
        self._failure: BadClientHello | NotTls | None = None

    def __repr__(self) -> str:
        state = "failed" if self._failure is not None else "complete" if self._hello is not None else "reading"
        return f"<ClientHelloReader {state}, {len(self.data)} bytes>"

    def feed(self, data: bytes) -> ClientHello | None:
        """Take the next bytes of the connection. None = more are needed. Raises BadClientHello or NotTls at the
        byte that proves it (within the message: at its end), and again at each later call."""
        if self._failure is not None:
            raise self._failure
        self.data += data
        try:
            if self._hello is None:
                self._hello = self._read()
            if len(self.data) > self._limit:  # with a hello, too: its client has to wait for an answer
                raise BadClientHello(Alert.ILLEGAL_PARAMETER, f"more than {self._limit} bytes")
        except (BadClientHello, NotTls) as error:
            self._failure = error
            self.data.clear()
            self._message.clear()
            raise
        return self._hello

    def _read(self) -> ClientHello | None:
        """Take whole records within the limit, until the message is complete."""
        data, message = self.data, self._message
        have = min(len(data), self._limit)
        while self._has_header(have):
            begin = self._at + _HEADER
            end = begin + int.from_bytes(data[self._at + 3 : begin])
            if have > begin and not message and data[begin] != _CLIENT_HELLO:
                raise BadClientHello(Alert.UNEXPECTED_MESSAGE, "another handshake message than a hello")
            if have < end:
                return None
            message += data[begin:end]
            self._at = end
            if len(message) < 4:
                continue
            length = 4 + int.from_bytes(message[1:4])
            if length > self._limit:
                raise BadClientHello(Alert.ILLEGAL_PARAMETER, f"more than {self._limit} bytes")
            if len(message) > length:
                raise BadClientHello(Alert.UNEXPECTED_MESSAGE, "bytes behind the hello in its last record")
            if len(message) == length:
                hello = _hello_in(bytes(message))
                message.clear()
                return hello
        return None

    def _has_header(self, end: int) -> bool:
        """Whether the header of the next record is there, before `end`. Raises BadClientHello, NotTls."""
        data, at = self.data, self._at
        have = end - at
        if have <= 0:
            return False
        if data[at] != _HANDSHAKE:
            if at or data[at] in _TLS_TYPES:
                raise BadClientHello(Alert.UNEXPECTED_MESSAGE, "another record than one of the handshake")
            _check_other(data)
            return False
        if have > 1 and data[at + 1] != 3:
            # The minor version is ignored (RFC 8446, section 5.1).
            raise BadClientHello(Alert.PROTOCOL_VERSION, "an unknown version of records")
        if have < _HEADER:
            return False
        length = int.from_bytes(data[at + 3 : at + 5])
        if not length:
            raise BadClientHello(Alert.UNEXPECTED_MESSAGE, "an empty record")
        if length > MAX_FRAGMENT:
            raise BadClientHello(Alert.RECORD_OVERFLOW, f"a record of {length} bytes")
        return True


def _check_other(data: bytearray) -> None:
    """Tell what begins without a record of TLS; None = it may still be HTTP or SSL 2.0. Raises NotTls."""
    first = data[0]
    if first & 0x80:  # length of two bytes, then type 1 of a client hello (SSL 2.0, or compatible with it)
        if len(data) > 2:
            raise NotTls(OtherProtocol.SSL_2 if data[2] == _CLIENT_HELLO else OtherProtocol.UNKNOWN)
        return
    method, space, _ = bytes(data[: _LONGEST_METHOD + 1]).partition(b" ")
    if not all(65 <= letter <= 90 or letter == 45 for letter in method):
        raise NotTls(OtherProtocol.UNKNOWN)
    if space and method:
        raise NotTls(OtherProtocol.HTTP)
    if space or len(method) > _LONGEST_METHOD:
        raise NotTls(OtherProtocol.UNKNOWN)


class _Bytes:
    """Reads fields from the front of a part of the message. Each raises BadClientHello when it does not fit."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self._data = data
        self._at = at
        self._end = end

    @property
    def is_empty(self) -> bool:
        return self._at == self._end

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size))

    def take(self, size: int) -> bytes:
        at = self._at
        if at + size > self._end:
            raise BadClientHello(Alert.DECODE_ERROR, "a length that goes beyond what contains it")
        self._at = at + size
        return self._data[at : at + size]

    def vector(self, size: int, least: int = 0, most: int = 65535) -> bytes:
        """A vector: its length in `size` bytes, then as many bytes, from `least` to `most`."""
        length = self.number(size)
        if not least <= length <= most:
            raise BadClientHello(Alert.DECODE_ERROR, "a length that is not permitted")
        return self.take(length)

    def finish(self) -> None:
        if self._at != self._end:
            raise BadClientHello(Alert.DECODE_ERROR, "bytes that belong to nothing")


def _all_of(data: bytes) -> _Bytes:
    return _Bytes(data, 0, len(data))


def _hello_in(message: bytes) -> ClientHello:
    """Decode a whole message with its header. Raises BadClientHello."""
    extensions = _extensions_in(message, _start_of_extensions(message))
    legacy_version = message[4] << 8 | message[5]
    get = extensions.get
    names, alpn, versions = get(_SERVER_NAME), get(_ALPN), get(_SUPPORTED_VERSIONS)
    keys, ticket = get(_PRE_SHARED_KEY), get(_SESSION_TICKET, b"")
    if keys is not None and next(reversed(extensions)) != _PRE_SHARED_KEY:  # RFC 8446, section 4.2.11
        raise BadClientHello(Alert.ILLEGAL_PARAMETER, "pre_shared_key is not the last extension")
    return ClientHello(
        None if names is None else _server_name(names),
        () if alpn is None else _protocols(alpn),
        (legacy_version,) if versions is None else _versions(versions),
        (ticket if keys is None else _first_identity(keys))[:TICKET_NAME],
    )


def _start_of_extensions(message: bytes) -> int:
    """Where the extensions begin, behind their length; the end of the message if there are none, as in TLS 1.2.
    Raises BadClientHello. (By index: this and the next function read all of a hello.)"""
    end = len(message)
    if end > 4 and message[4] != 3:
        raise BadClientHello(Alert.PROTOCOL_VERSION, "an unknown version")
    at = 38  # header, version, random
    try:
        session = message[at]
        at += 1 + session
        suites = message[at] << 8 | message[at + 1]
        at += 2 + suites
        compression = message[at]
        at += 1 + compression
        has_extensions = at != end
        size = message[at] << 8 | message[at + 1] if has_extensions else 0
    except IndexError:
        raise BadClientHello(Alert.DECODE_ERROR, "a length that goes beyond the message") from None
    if session > 32 or suites < 2 or suites % 2 or not compression:
        raise BadClientHello(Alert.DECODE_ERROR, "a length that is not permitted")
    if has_extensions:
        at += 2
    if at + size != end:
        raise BadClientHello(Alert.DECODE_ERROR, "extensions that do not end with the message")
    return at


def _extensions_in(message: bytes, at: int) -> dict[int, bytes]:
    """The extensions by type, in their order. Raises BadClientHello."""
    found: dict[int, bytes] = {}
    end = len(message)
    while at < end:
        start = at + 4
        if start > end:
            raise BadClientHello(Alert.DECODE_ERROR, "half an extension")
        kind = message[at] << 8 | message[at + 1]
        at = start + (message[at + 2] << 8 | message[at + 3])
        if at > end:
            raise BadClientHello(Alert.DECODE_ERROR, "an extension that goes beyond the message")
        if kind in found:  # RFC 8446, section 4.2
            raise BadClientHello(Alert.ILLEGAL_PARAMETER, f"extension {kind} is given twice")
        found[kind] = message[start:at]
    return found


@lru_cache(NAMES_REMEMBERED)
def _server_name(data: bytes) -> str | None:
    """The hostname in a server_name extension (RFC 6066, section 3). Raises BadClientHello. Cached: clients come
    again, and for the same few names."""
    outer = _all_of(data)
    names = _all_of(outer.vector(2, least=1))
    outer.finish()
    if names.number(1) != 0:
        raise BadClientHello(Alert.DECODE_ERROR, "a name of an unknown type")
    name = names.vector(2, least=1)
    if not names.is_empty:
        if names.number(1) == 0:
            raise BadClientHello(Alert.ILLEGAL_PARAMETER, "two names")
        raise BadClientHello(Alert.DECODE_ERROR, "a name of an unknown type")
    if len(name) > _LONGEST_NAME or b"\0" in name or not name.isascii():
        raise BadClientHello(Alert.UNRECOGNIZED_NAME, "a name that cannot be a hostname")
    return hostname_in(name.decode("ascii"))


def _protocols(data: bytes) -> tuple[bytes, ...]:
    """The same as `_read_protocols`, remembered for lists of usual length: all clients send one of a few."""
    return _usual_protocols(data) if len(data) <= USUAL_LIST else _read_protocols(data)


def _versions(data: bytes) -> tuple[int, ...]:
    """The same as `_read_versions`."""
    return _usual_versions(data) if len(data) <= USUAL_LIST else _read_versions(data)


def _read_protocols(data: bytes) -> tuple[bytes, ...]:
    """The protocols of an ALPN extension (RFC 7301, section 3.1). Raises BadClientHello."""
    outer = _all_of(data)
    names, found = _all_of(outer.vector(2, least=2)), []
    outer.finish()
    while not names.is_empty:
        found.append(names.vector(1, least=1))
    return tuple(found)


def _read_versions(data: bytes) -> tuple[int, ...]:
    """The versions of a supported_versions extension (RFC 8446, section 4.2.1). Raises BadClientHello."""
    outer = _all_of(data)
    versions = outer.vector(1, least=2)
    outer.finish()
    if len(versions) % 2:
        raise BadClientHello(Alert.DECODE_ERROR, "half a version")
    return tuple(int.from_bytes(versions[at : at + 2]) for at in range(0, len(versions), 2))


_usual_protocols: Final = lru_cache(LISTS_REMEMBERED)(_read_protocols)
_usual_versions: Final = lru_cache(LISTS_REMEMBERED)(_read_versions)


def _first_identity(data: bytes) -> bytes:
    """The first identity of a pre_shared_key extension (RFC 8446, section 4.2.11). Raises BadClientHello."""
    outer = _all_of(data)
    identities, binders = _all_of(outer.vector(2, least=7)), _all_of(outer.vector(2, least=33))
    outer.finish()
    first, count = b"", 0
    while not identities.is_empty:
        identity = identities.vector(2, least=1)
        identities.take(4)  # obfuscated_ticket_age
        first = first or identity
        count += 1
    while not binders.is_empty:
        binders.vector(1, least=32)
        count -= 1
    if count:
        raise BadClientHello(Alert.ILLEGAL_PARAMETER, "not one binder for each identity")
    return first
