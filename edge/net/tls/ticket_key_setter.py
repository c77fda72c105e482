"""Sets the ticket keys of an SSLContext, for which the `ssl` module has no call: SSL_CTX_ctrl, through ctypes.

A wrong guess about the memory of another library would be a crash, or worse, keys that are none. So the first use
tests everything that is assumed, from the outside in: there is one libssl in this process, and it has the two
functions; what lies behind an SSLContext object points into writable memory; OpenSSL's options of that pointer are
the ones that `ssl` tells, before and after a change; keys that are set can be read back; and a session that began
with one context is resumed by another one with the same keys, in memory. If any of this fails, keys cannot be set;
contexts that are made before the fork still resume the sessions of each other's processes.
"""

import ctypes
import secrets
import ssl
from functools import cache

from edge.rules.tls.ticket_keys import KEY_SIZE

_GET_KEYS, _SET_KEYS = 58, 59
"SSL_CTRL_GET_TLSEXT_TICKET_KEYS and SSL_CTRL_SET_TLSEXT_TICKET_KEYS (openssl/ssl.h)."
_POINTER = ctypes.sizeof(ctypes.c_void_p)


class NoTicketKeys(Exception):
    """Ticket keys cannot be set in this process; the text says why."""


class TicketKeySetter:
    """Sets ticket keys. Made by `ticket_key_setter`, which tests it first."""

    __slots__ = ("_ctrl", "_options")

    def __init__(self, library: ctypes.CDLL) -> None:
        """Raises AttributeError when this library lacks a function."""
        self._ctrl = library.SSL_CTX_ctrl
        self._ctrl.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p]
        self._ctrl.restype = ctypes.c_long
        self._options = library.SSL_CTX_get_options
        self._options.argtypes = [ctypes.c_void_p]
        self._options.restype = ctypes.c_uint64

    def set(self, context: ssl.SSLContext, keys: bytes) -> None:
        """Use these 80 bytes for the tickets of this context. Raises NoTicketKeys."""
        if len(keys) != KEY_SIZE:
            raise NoTicketKeys(f"{len(keys)} bytes instead of {KEY_SIZE}")
        buffer = ctypes.create_string_buffer(keys, KEY_SIZE)
        if self._ctrl(_pointer_of(context), _SET_KEYS, KEY_SIZE, buffer) != 1:
            raise NoTicketKeys("OpenSSL does not take keys of this size")

    def get(self, context: ssl.SSLContext) -> bytes:
        """The keys of this context. Raises NoTicketKeys."""
        buffer = ctypes.create_string_buffer(KEY_SIZE)
        if self._ctrl(_pointer_of(context), _GET_KEYS, KEY_SIZE, buffer) != 1:
            raise NoTicketKeys("OpenSSL does not tell keys of this size")
        return buffer.raw

    def test_pointer(self) -> None:
        """Test that the pointer is that of OpenSSL. Raises NoTicketKeys."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        pointer = _pointer_of(context)
        if not any(start <= pointer < end for start, end in _writable_memory()):
            raise NoTicketKeys("an SSLContext does not begin with a pointer")
        for options in (context.options, context.options ^ ssl.OP_NO_RENEGOTIATION):
            context.options = options
            if self._options(pointer) != int(context.options) & 0xFFFFFFFFFFFFFFFF:
                raise NoTicketKeys("an SSLContext does not begin with the pointer of OpenSSL")

    def test_keys(self) -> None:
        """Test that keys are kept, and that a session is resumed by another context with the same ones, and by no
        other. Raises NoTicketKeys."""
        keys = secrets.token_bytes(KEY_SIZE)
        first, second, stranger = (_anonymous(ssl.PROTOCOL_TLS_SERVER) for _ in range(3))
        for context, its in ((first, keys), (second, keys), (stranger, secrets.token_bytes(KEY_SIZE))):
            self.set(context, its)
            if self.get(context) != its:
                raise NoTicketKeys("keys that were set are not read back")
        client = _anonymous(ssl.PROTOCOL_TLS_CLIENT)
        session, _ = _session_with(client, first, None)
        if not _session_with(client, second, session)[1]:
            raise NoTicketKeys("no resumption by another context with the same keys")
        if _session_with(client, stranger, session)[1]:
            raise NoTicketKeys("resumption by a context with other keys")


@cache
def ticket_key_setter() -> TicketKeySetter:
    """The tested setter of this process; the first call takes 5 ms. Raises NoTicketKeys."""
    libraries = {path for path in _mapped_files() if path.rpartition("/")[2].startswith("libssl.so")}
    if len(libraries) != 1:
        raise NoTicketKeys(f"{len(libraries)} libssl in this process instead of one")
    try:
        setter = TicketKeySetter(ctypes.CDLL(libraries.pop()))
    except (OSError, AttributeError) as error:
        raise NoTicketKeys(str(error)) from error
    setter.test_pointer()
    setter.test_keys()
    return setter


def _pointer_of(context: ssl.SSLContext) -> int:
    """The SSL_CTX of an SSLContext: the first member of PySSLContext (Modules/_ssl.c), behind its header."""
    return ctypes.c_size_t.from_address(id(context) + object.__basicsize__).value


def _maps() -> list[list[str]]:
    with open("/proc/self/maps") as maps:
        return [line.split(maxsplit=5) for line in maps]


def _mapped_files() -> set[str]:
    try:
        return {parts[5].strip() for parts in _maps() if len(parts) > 5 and parts[5].startswith("/")}
    except OSError as error:
        raise NoTicketKeys(str(error)) from error


def _writable_memory() -> list[tuple[int, int]]:
    found = []
    for parts in _maps():
        start, _, end = parts[0].partition("-")
        if parts[1].startswith("rw"):
            found.append((int(start, 16), int(end, 16) - _POINTER))
    return found


def _anonymous(protocol: ssl._SSLMethod) -> ssl.SSLContext:
    """A context without a certificate, for connections in memory; the keys of TLS 1.3's tickets are the same."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AECDH-AES128-SHA:@SECLEVEL=0")
    return context


def _session_with(
    client: ssl.SSLContext, server: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[ssl.SSLSession | None, bool]:
    """Connect in memory. Returns the session for the next time, and whether this one was resumed. Raises
    NoTicketKeys."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, session=session)
    try:
        for _ in range(4):
            for end in (theirs, ours):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        ours.write(b"x")
        theirs.read(1)
    except ssl.SSLError as error:
        raise NoTicketKeys(f"no connection in memory: {error}") from error
    return theirs.session, bool(theirs.session_reused)
