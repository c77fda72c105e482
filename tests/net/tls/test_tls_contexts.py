"""Contexts of hosts: what they are built from, in a thread, and how many are kept."""

import asyncio
import os
import ssl
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from edge.net.tls.bio_pair import BioPair
from edge.net.tls.tls_contexts import HostContexts, PemPair, TlsProfile, base_context, host_context
from tests.support.tls_parts import TLS12, TLS13, MemoryConnection, client_context, issue

ECDSA, RSA = issue("site.test"), issue("site.test", rsa=True)


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def cipher_of(client: ssl.SSLContext, *pairs: PemPair, profile: TlsProfile = TlsProfile.INTERMEDIATE) -> str:
    made = MemoryConnection(BioPair(), client, pairs, profile=profile)
    made.shake_hands()
    cipher = made.server.cipher()
    assert cipher is not None
    return cipher[0]


def offering(ciphers: str) -> ssl.SSLContext:
    client = client_context(version=TLS12)
    client.set_ciphers(ciphers)
    return client


async def test_the_client_decides_between_ecdsa_and_rsa() -> None:
    assert cipher_of(offering("ECDHE-ECDSA-AES128-GCM-SHA256"), ECDSA, RSA) == "ECDHE-ECDSA-AES128-GCM-SHA256"
    assert cipher_of(offering("ECDHE-RSA-AES128-GCM-SHA256"), ECDSA, RSA) == "ECDHE-RSA-AES128-GCM-SHA256"


@pytest.mark.parametrize("cipher", ["ECDHE-RSA-AES128-SHA256", "AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256"])
async def test_other_ciphers_are_refused(cipher: str) -> None:
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        cipher_of(offering(cipher), RSA)


async def test_profiles() -> None:
    assert cipher_of(client_context(version=TLS13), ECDSA, profile=TlsProfile.MODERN).startswith("TLS_")
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        cipher_of(client_context(version=TLS12), ECDSA, profile=TlsProfile.MODERN)


async def test_alpn_is_the_hosts() -> None:
    made = MemoryConnection(BioPair(), client_context(alpn=["h2", "http/1.1"]), [ECDSA])
    made.shake_hands()
    assert made.client.selected_alpn_protocol() == "http/1.1"


def test_what_is_no_pair_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        host_context([PemPair(ECDSA.chain, issue("site.test").key)], TlsProfile.INTERMEDIATE, [])
    with pytest.raises(ssl.SSLError):
        host_context([PemPair(b"", b"")], TlsProfile.INTERMEDIATE, [])
    with pytest.raises(ValueError, match="no certificate"):
        host_context([], TlsProfile.INTERMEDIATE, [])
    encrypted = load_pem_private_key(ECDSA.key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    with pytest.raises(ValueError, match="encrypted"):
        host_context([PemPair(ECDSA.chain, encrypted)], TlsProfile.INTERMEDIATE, [])


def test_no_descriptor_is_left() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        host_context([ECDSA, RSA], TlsProfile.INTERMEDIATE, [])
        with pytest.raises(ssl.SSLError):
            host_context([PemPair(ECDSA.chain, RSA.key)], TlsProfile.INTERMEDIATE, [])
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_key_is_not_shown() -> None:
    assert ECDSA.key.decode()[40:60] not in repr(ECDSA)


async def test_a_context_is_built_once_however_many_wait(executor: Executor) -> None:
    hosts = HostContexts(asyncio.get_running_loop(), executor, TlsProfile.INTERMEDIATE)
    waiting = [asyncio.create_task(hosts.build("a", [ECDSA], [])) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    contexts = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(contexts[0], asyncio.CancelledError)
    assert len({id(context) for context in contexts[1:]}) == 1, "who leaves does not take it from the others"
    assert hosts.built == 1
    assert hosts.find("a") is contexts[1] is await hosts.build("a", [ECDSA], [])


async def test_a_failure_is_not_kept(executor: Executor) -> None:
    hosts = HostContexts(asyncio.get_running_loop(), executor, TlsProfile.INTERMEDIATE)
    for _ in range(2):
        with pytest.raises(ssl.SSLError):
            await hosts.build("a", [PemPair(ECDSA.chain, RSA.key)], [])
    assert hosts.find("a") is None
    assert await hosts.build("a", [ECDSA], [])


async def test_the_least_used_contexts_are_dropped(executor: Executor) -> None:
    hosts = HostContexts(asyncio.get_running_loop(), executor, TlsProfile.INTERMEDIATE, capacity=3)
    for name in "abc":
        await hosts.build(name, [ECDSA], [])
    assert hosts.find("a") is not None
    await hosts.build("d", [ECDSA], [])
    assert [hosts.find(name) is not None for name in "abcd"] == [True, False, True, True]
    assert len(hosts) == 3
    hosts.discard("a")
    hosts.discard("a")
    assert len(hosts) == 2


async def test_a_session_is_resumed_under_the_context_of_another_host() -> None:
    """As documented: a ticket belongs to the base context, not to a host."""
    base, client = base_context(TlsProfile.INTERMEDIATE), client_context(version=TLS13)
    first = MemoryConnection(BioPair(), client, [ECDSA], base=base)
    first.shake_hands()
    first.transport.write(b"x")
    first.read()
    other = [issue("other.test")]
    second = MemoryConnection(BioPair(), client, other, name="other.test", base=base, session=first.client.session)
    second.shake_hands()
    assert second.server.session_reused
