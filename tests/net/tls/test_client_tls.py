"""The edge as a client of TLS: what it trusts, and files that change."""

import os
import ssl
from pathlib import Path

import pytest
import trustme

from edge.net.tls.client_tls import ClientTls, ClientTlsFiles, client_context
from tests.support.tls_parts import ca, issue


@pytest.fixture
def files(tmp_path: Path) -> ClientTlsFiles:
    ours = issue("edge.internal")
    (tmp_path / "ca.pem").write_bytes(ca().cert_pem.bytes())
    (tmp_path / "edge.pem").write_bytes(ours.chain)
    (tmp_path / "edge.key").write_bytes(ours.key)
    return ClientTlsFiles(*(str(tmp_path / name) for name in ("ca.pem", "edge.pem", "edge.key")))


def replace(path: str, content: bytes) -> None:
    Path(path).write_bytes(content)


def test_the_context_of_a_client(files: ClientTlsFiles) -> None:
    context = client_context(files)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(context.get_ca_certs()) == 1, "the CAs of the system are not trusted"
    assert ClientTls(files, context).paths == list(files)
    assert ClientTls(files._replace(certificate=None, key=None), context).paths == [files.ca]


async def test_changed_files_are_used_from_the_next_connection_on(files: ClientTlsFiles) -> None:
    tls = ClientTls(files, client_context(files))
    before, calls = tls.context, []
    tls.on_change(lambda: calls.append(tls.context))
    other = trustme.CA(key_type=trustme.KeyType.ECDSA)
    replace(files.ca, other.cert_pem.bytes())
    await tls.reload()
    assert tls.context is not before
    assert calls == [tls.context]
    assert tls.context.get_ca_certs() != before.get_ca_certs()


@pytest.mark.parametrize("broken", ["ca", "certificate", "key", "missing"])
async def test_files_that_are_no_good_change_nothing(files: ClientTlsFiles, broken: str) -> None:
    tls = ClientTls(files, client_context(files))
    before = tls.context
    if broken == "missing":
        os.unlink(files.ca)
    else:
        replace(getattr(files, broken), issue("other.internal").key if broken == "key" else b"")
    with pytest.raises((OSError, ValueError)):
        await tls.reload()
    assert tls.context is before
