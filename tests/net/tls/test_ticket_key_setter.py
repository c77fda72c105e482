"""Ticket keys in OpenSSL's own memory, and what is tested before they are set there."""

import ctypes
import secrets
import ssl

import pytest

from edge.net.tls import ticket_key_setter as module
from edge.net.tls.bio_pair import BioPair
from edge.net.tls.ticket_key_setter import NoTicketKeys, TicketKeySetter, ticket_key_setter
from edge.net.tls.tls_contexts import BaseContexts, TlsProfile
from edge.rules.tls.ticket_keys import TicketKey, TicketKeys
from tests.support.tls_parts import TLS12, TLS13, MemoryConnection, client_context, issue

PAIRS = [issue("site.test")]
VERSIONS = pytest.mark.parametrize("version", [TLS12, TLS13], ids=lambda version: version.name)


def new_key(made_at: float = 0.0) -> TicketKey:
    return TicketKey(secrets.token_bytes(80), made_at)


class Visitor:
    """A client that comes again, to one worker or another, with the session that it got last."""

    def __init__(self, version: ssl.TLSVersion) -> None:
        self._context = client_context(version=version)
        self._session: ssl.SSLSession | None = None
        self.ticket = b""

    def resumes(self, bases: BaseContexts) -> bool:
        made = MemoryConnection(
            BioPair(), self._context, PAIRS, base=bases.choose(self.ticket), session=self._session
        )
        made.shake_hands()
        made.transport.write(b"x")
        made.read()
        self._session = made.client.session
        assert self._session is not None
        self.ticket = ticket_of(made.client)
        return bool(made.server.session_reused)


def ticket_of(client: ssl.SSLObject) -> bytes:
    """The 16 bytes of the client's ticket, as OpenSSL prints a session: there is no call for it."""
    session = client.session
    assert session is not None
    libssl = ctypes.CDLL("libssl.so.3")
    libssl.SSL_SESSION_get0_ticket.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    pointer = ctypes.c_size_t.from_address(id(session) + object.__basicsize__).value
    ticket, size = ctypes.POINTER(ctypes.c_ubyte)(), ctypes.c_size_t()
    libssl.SSL_SESSION_get0_ticket(pointer, ctypes.byref(ticket), ctypes.byref(size))
    return bytes(ticket[:16])


def test_the_self_tests_pass_here() -> None:
    assert ticket_key_setter() is ticket_key_setter(), "once in a process"


def test_keys_of_another_size_are_refused() -> None:
    setter, context = ticket_key_setter(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(NoTicketKeys, match="79 bytes"):
        setter.set(context, bytes(79))


@VERSIONS
def test_every_worker_resumes_with_the_same_keys(version: ssl.TLSVersion) -> None:
    keys = TicketKeys(new_key())
    first, second = (BaseContexts(TlsProfile.INTERMEDIATE, keys) for _ in range(2))
    assert not first.why_no_keys
    visitor = Visitor(version)
    assert [visitor.resumes(bases) for bases in (first, second, first)] == [False, True, True]
    stranger = BaseContexts(TlsProfile.INTERMEDIATE, TicketKeys(new_key()))
    assert not visitor.resumes(stranger)


@VERSIONS
def test_the_key_before_is_accepted_and_the_one_before_that_is_not(version: ssl.TLSVersion) -> None:
    keys = TicketKeys(new_key())
    bases, other = (BaseContexts(TlsProfile.INTERMEDIATE, keys) for _ in range(2))
    early, late = Visitor(version), Visitor(version)
    assert not early.resumes(bases)
    assert not late.resumes(bases)
    keys = keys.rotated(new_key().secret, 1.0)
    for worker in (bases, other):
        worker.rotate(keys)
    assert early.resumes(other)
    keys = keys.rotated(new_key().secret, 2.0)
    for worker in (bases, other):
        worker.rotate(keys)
    assert not late.resumes(other)
    assert late.ticket == keys.current.name, "its next ticket is of the new key"
    assert late.resumes(bases)


def test_without_keys_a_context_made_before_serves_all() -> None:
    made = BaseContexts(TlsProfile.INTERMEDIATE, None).choose(b"")
    bases = BaseContexts(TlsProfile.INTERMEDIATE, None, made)
    assert bases.choose(b"") is made
    assert bases.choose(b"a ticket of another key") is made


def test_when_keys_cannot_be_set_it_is_told_and_sessions_are_still_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unavailable() -> TicketKeySetter:
        raise NoTicketKeys("no libssl in this process")

    monkeypatch.setattr("edge.net.tls.tls_contexts.ticket_key_setter", unavailable)
    bases = BaseContexts(TlsProfile.INTERMEDIATE, TicketKeys(new_key()))
    assert bases.why_no_keys == "no libssl in this process"
    visitor = Visitor(TLS13)
    assert [visitor.resumes(bases) for _ in range(2)] == [False, True]


# every self-test fails when it should


def test_two_libraries_are_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_mapped_files", lambda: {"/a/libssl.so.3", "/b/libssl.so.1.1"})
    with pytest.raises(NoTicketKeys, match="2 libssl"):
        ticket_key_setter.__wrapped__()


def test_a_library_without_the_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_mapped_files", lambda: {"/x/libssl.so.3"})
    monkeypatch.setattr(ctypes, "CDLL", lambda path: object())
    with pytest.raises(NoTicketKeys, match="SSL_CTX_ctrl"):
        ticket_key_setter.__wrapped__()


def test_an_object_of_another_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    setter = ticket_key_setter()
    monkeypatch.setattr(module, "_pointer_of", lambda context: 4096)
    with pytest.raises(NoTicketKeys, match="does not begin with a pointer"):
        setter.test_pointer()


def test_a_pointer_to_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    setter, other = ticket_key_setter(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.options |= ssl.OP_NO_TICKET
    pointer = module._pointer_of(other)
    monkeypatch.setattr(module, "_pointer_of", lambda context: pointer)
    with pytest.raises(NoTicketKeys, match="the pointer of OpenSSL"):
        setter.test_pointer()


def test_keys_that_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    setter = ticket_key_setter()
    monkeypatch.setattr(TicketKeySetter, "set", lambda self, context, keys: None)
    with pytest.raises(NoTicketKeys, match="not read back"):
        setter.test_keys()


def test_keys_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    setter, kept = ticket_key_setter(), {}
    monkeypatch.setattr(TicketKeySetter, "set", lambda self, context, keys: kept.update({context: keys}))
    monkeypatch.setattr(TicketKeySetter, "get", lambda self, context: kept[context])
    with pytest.raises(NoTicketKeys, match="no resumption"):
        setter.test_keys()
