"""Listeners that ask their clients for certificates: who is let in, what backends are told, what is resumed."""

import asyncio
import ssl
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import trustme
from structlog.testing import capture_logs

from edge.net.tls.tls_contexts import PemPair, load_pair
from edge.net.tls.tls_service import TlsService
from tests.support.h2_tls_client import H2TlsClient
from tests.support.sample_revocations import revocation_list
from tests.support.scene import Scene, request
from tests.support.scene_client import CutShort
from tests.support.tls_client import TlsClient
from tests.support.tls_parts import TLS12, TLS13, StubCertificate, StubCertificates, client_context, issue

PAIR = issue("shop.test", "other.test")
STAFF, PARTNERS = (trustme.CA(key_type=trustme.KeyType.ECDSA) for _ in range(2))
ANN, BOB = (issue(f"{name}@staff.test", by=STAFF) for name in ("ann", "bob"))
VERSIONS = pytest.mark.parametrize("version", [TLS12, TLS13], ids=lambda version: version.name)
CARRIERS = pytest.mark.parametrize(("carrier", "protocol"), [(TlsClient, "http/1.1"), (H2TlsClient, "h2")])
FORGED = b"".join(
    b"%b: forged\r\n" % name
    for name in b"X-Client-Cert-Verify X-Client-Cert-Other X_CLIENT_CERT_SUBJECT Client-Cert Client-Cert-Chain "
    b"Client_Cert X-Forwarded-Client-Cert".split()
)


class Door:
    """A scene whose edge asks for certificates of the staff's authority, on its first listener."""

    def __init__(self, scene: Scene, directory: Path) -> None:
        self.scene = scene
        self.file = directory / "staff.pem"
        self.file.write_bytes(STAFF.cert_pem.bytes())
        self.others = directory / "partners.pem"
        self.others.write_bytes(PARTNERS.cert_pem.bytes())
        (directory / "sites").mkdir()
        scene.settings(tls={"certificates": f"file:{directory}/sites"})
        self.backend = scene.backend()
        scene.route("shop.test", [self.backend])
        scene.route("other.test", [self.backend])

    async def open(self, *listeners: dict[str, object], **more: object) -> TlsService:
        """`listeners`: beside the one that requires a certificate; `more`: settings of that one."""
        first = {"tls": True, "client_ca": str(self.file), **more}
        self.scene.listeners(first, *({"tls": True, **each} for each in listeners))
        worker = await self.scene.edge()
        assert worker.context.tls is not None
        stub = StubCertificates()
        certificate = StubCertificate(PAIR, alpn=("h2", "http/1.1"))
        stub.ready = {"shop.test": certificate, "other.test": certificate}
        worker.context.tls.certificates = stub
        return worker.context.tls

    async def visit(
        self, context: ssl.SSLContext, carrier: type[TlsClient] = TlsClient, **options: object
    ) -> tuple[int, TlsClient]:
        """The status of one request. Raises ssl.SSLError or ConnectionResetError when the edge lets nobody in."""
        client = await carrier.of(self.scene, context=context, **options)
        await client.write(request("shop.test"))
        return (await client.read_reply()).status, client

    async def is_let_in(self, context: ssl.SSLContext, **options: object) -> bool:
        try:
            return (await self.visit(context, **options))[0] == 200
        except (ssl.SSLError, ConnectionResetError, CutShort):
            return False

    def told(self) -> dict[str, bytes]:
        """What the backend was told about the certificate."""
        fields = [(name.decode(), value) for name, value in self.backend.last.fields if b"client" in name]
        found = {name: value for name, value in fields if "cert" in name}
        assert len(found) == len(fields)
        return found


@pytest.fixture
def door(scene: Scene, tmp_path: Path) -> Door:
    return Door(scene, tmp_path)


def showing(pair: PemPair | None, **options: object) -> ssl.SSLContext:
    """Of a client with this certificate."""
    context = client_context(**options)  # type: ignore[arg-type]
    if pair is not None:
        load_pair(context, pair)
    return context


@VERSIONS
async def test_who_shows_a_certificate_is_let_in(door, version):
    tls = await door.open()
    status, _ = await door.visit(showing(ANN, version=version))
    assert status == 200
    told = door.told()
    assert told["x-client-cert-verify"] == b"SUCCESS"
    assert told["x-client-cert-san"] == b"email=ann@staff.test"
    assert set(told) > {"x-client-cert-subject", "x-client-cert-fingerprint", "client-cert"}
    assert door.scene.outcome.client_cert == told["x-client-cert-subject"].decode()
    assert not tls.failures


@VERSIONS
@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        (None, "no_client_certificate"),
        (issue("bob@partners.test", by=PARTNERS), "bad_client_certificate"),
        (PAIR, "bad_client_certificate"),
    ],
    ids=["none", "of another authority", "of a site"],
)
async def test_who_does_not_is_not(door, version, pair, reason):
    tls = await door.open()
    assert not await door.is_let_in(showing(pair, version=version))
    assert tls.failures == {reason: 1}
    assert not door.backend.requests
    assert tls.bios.is_empty


async def test_an_optional_certificate(door):
    tls = await door.open(verify_client="optional")
    assert await door.is_let_in(showing(None))
    assert door.told() == {"x-client-cert-verify": b"NONE"}
    assert door.scene.outcome.client_cert == ""
    assert await door.is_let_in(showing(ANN))
    assert door.told()["x-client-cert-verify"] == b"SUCCESS"
    assert not await door.is_let_in(showing(issue("bob@partners.test", by=PARTNERS)))
    assert tls.failures == {"bad_client_certificate": 1}


@CARRIERS
@pytest.mark.parametrize("listener", [0, 1, 2], ids=["required", "without", "optional"])
async def test_a_client_cannot_say_who_it_is(door, carrier, protocol, listener):
    await door.open({}, {"client_ca": str(door.file), "verify_client": "optional"})
    context = showing(ANN if listener == 0 else None, alpn=[protocol])
    client = await carrier.of(door.scene, context=context, listener=listener)
    await client.write(b"GET / HTTP/1.1\r\nHost: shop.test\r\n%b\r\n" % FORGED)
    assert (await client.read_reply()).status == 200
    assert b"forged" not in door.told().values()
    verified = {0: b"SUCCESS", 1: None, 2: b"NONE"}[listener]
    assert door.told().get("x-client-cert-verify") == verified


async def test_a_trusted_proxy_can_unless_it_is_asked_itself(door):
    await door.open({}, trusted=("127.0.0.0/8",), verify_client="optional")
    client = await TlsClient.of(door.scene, context=showing(None))
    head = b"GET / HTTP/1.1\r\nHost: shop.test\r\nX-Client-Cert-Verify: SUCCESS\r\nClient-Cert: :AAAA:\r\n\r\n"
    await client.write(head)
    assert (await client.read_reply()).status == 200
    assert door.told() == {"x-client-cert-verify": b"NONE"}


async def test_fields_of_a_trusted_proxy_are_passed_on(door):
    await door.open({"trusted": ("127.0.0.0/8",)})
    client = await TlsClient.of(door.scene, context=showing(None), listener=1)
    head = b"GET / HTTP/1.1\r\nHost: shop.test\r\nX-Client-Cert-Verify: SUCCESS\r\nClient-Cert: :AAAA:\r\n\r\n"
    await client.write(head)
    assert (await client.read_reply()).status == 200
    assert door.told() == {"x-client-cert-verify": b"SUCCESS", "client-cert": b":AAAA:"}


@CARRIERS
async def test_all_requests_of_a_connection_are_described(door, carrier, protocol):
    await door.open()
    _, client = await door.visit(showing(ANN, alpn=[protocol]), carrier)
    first = door.told()
    for host in ("other.test", "shop.test"):
        await client.write(request(host))
        assert (await client.read_reply()).status == 200
        assert door.told() == first


# resumption


@VERSIONS
async def test_a_session_is_resumed_with_its_certificate(door, version):
    tls = await door.open()
    context = showing(ANN, version=version)
    _, first = await door.visit(context)
    told = door.told()
    status, second = await door.visit(context, session=first.tls.session)
    assert second.tls.session_reused
    assert (status, door.told()) == (200, told)
    assert [resumed for _, resumed in tls.results] == [False, True]


@VERSIONS
@pytest.mark.parametrize(("source", "target"), [(1, 0), (2, 0), (3, 0), (0, 1), (0, 3), (2, 3)])
async def test_no_session_crosses_to_a_listener_with_other_demands(door, version, source, target):
    """0 requires the staff's, 1 asks for none, 2 for the staff's, 3 requires the partners' (CVE-2025-23419)"""
    optional = {"client_ca": str(door.file), "verify_client": "optional"}
    tls = await door.open({}, optional, {"client_ca": str(door.others)})
    bob = issue("bob@partners.test", by=PARTNERS)
    context = showing(bob if source == 3 else ANN if source == 0 else None, version=version)
    _, first = await door.visit(context, listener=source)
    context.check_hostname = True
    with suppress(ssl.SSLError, ConnectionResetError, CutShort):
        client = await TlsClient.of(door.scene, context=context, listener=target, session=first.tls.session)
        await client.write(request("shop.test"))
        await client.read_reply()
    assert not any(resumed for _, resumed in tls.results), "each handshake was a full one"
    assert len(door.backend.requests) == 1 + (target == 1)


async def test_listeners_with_the_same_demands_resume_each_others_sessions(door, tmp_path):
    copy = tmp_path / "copy.pem"
    copy.write_bytes(b"# the same\n" + door.file.read_bytes())
    tls = await door.open({"client_ca": str(door.file)}, {"client_ca": str(copy)})
    context = showing(ANN)
    _, first = await door.visit(context)
    for listener in (1, 2):
        status, _ = await door.visit(context, listener=listener, session=first.tls.session)
        assert status == 200
    assert tls.results["TLSv1.3", True] == 2
    assert len(tls.hosts) == 1, "and share the contexts of hosts"


async def test_sessions_survive_a_rotation_of_the_keys(door):
    tls = await door.open()
    context = showing(ANN)
    _, first = await door.visit(context)
    chain = tls.rotation.chain
    tls.rotation.chain = chain.advanced(chain.epoch + 1)
    for verification in tls.verifications.values():
        verification.rotate(tls.rotation.keys)
    assert (await door.visit(context, session=first.tls.session))[1].tls.session_reused


async def test_a_resumed_session_ends_with_its_certificate(door):
    tls = await door.open()
    context = showing(ANN)
    _, first = await door.visit(context)
    tls.wall = lambda: 4e10
    assert not await door.is_let_in(context, session=first.tls.session)
    assert tls.failures == {"bad_client_certificate": 1}
    assert len(door.backend.requests) == 1


# the file


async def test_other_authorities_count_from_the_next_connection_on(door):
    await door.open()
    bob = issue("bob@partners.test", by=PARTNERS)
    context = showing(ANN)
    _, staying = await door.visit(context)
    door.file.write_bytes(PARTNERS.cert_pem.bytes())
    door.scene.worker.renew_identity()
    assert not await door.is_let_in(context)
    assert not await door.is_let_in(context, session=staying.tls.session), "nor by a session from before"
    assert await door.is_let_in(showing(bob))
    await staying.write(request("shop.test"))
    assert (await staying.read_reply()).status == 200, "connections that are open stay"


async def test_a_file_that_is_no_good_changes_nothing(door, caplog):
    await door.open()
    door.file.write_bytes(PAIR.chain)
    door.scene.worker.renew_identity()
    assert await door.is_let_in(showing(ANN))
    door.file.unlink()
    door.scene.worker.renew_identity()
    assert await door.is_let_in(showing(ANN))


# revocation lists


@VERSIONS
@CARRIERS
async def test_who_is_revoked_is_not_let_in(door, tmp_path, version, carrier, protocol):
    crl = tmp_path / "crl.pem"
    crl.write_bytes(revocation_list(STAFF, [ANN]))
    tls = await door.open(client_crl=str(crl))
    assert not await door.is_let_in(showing(ANN, version=version, alpn=[protocol]), carrier=carrier)
    assert tls.failures == {"revoked_client_certificate": 1}
    assert not door.backend.requests
    assert tls.bios.is_empty
    assert await door.is_let_in(showing(BOB, version=version, alpn=[protocol]), carrier=carrier)


async def test_a_worker_that_accepts_has_published_when_its_lists_end(door, tmp_path):
    """Not only with the next heartbeat: metrics of before would say that there is no list."""
    crl = tmp_path / "crl.pem"
    crl.write_bytes(revocation_list(STAFF))
    tls = await door.open(client_crl=str(crl))
    row = door.scene.worker.row
    cell = dict(row.layout.published_gauges)["client_crl_soonest_end"]
    assert row.cells[cell] == tls.soonest_crl_end


@VERSIONS
async def test_a_session_of_before_its_certificate_was_revoked(door, tmp_path, version):
    crl = tmp_path / "crl.pem"
    crl.write_bytes(revocation_list(STAFF))
    tls = await door.open(client_crl=str(crl))
    ann, bob = (showing(pair, version=version) for pair in (ANN, BOB))
    (_, first), (_, second) = await door.visit(ann), await door.visit(bob)
    crl.write_bytes(revocation_list(STAFF, [ANN]))
    await renewed(door, tls)
    assert not await door.is_let_in(ann, session=first.tls.session)
    assert tls.failures == {"revoked_client_certificate": 1}
    assert (await door.visit(bob, session=second.tls.session))[1].tls.session_reused, "others resume theirs"
    await first.write(request("shop.test"))
    assert (await first.read_reply()).status == 200, "connections that are open stay"


async def renewed(door: Door, tls: TlsService) -> None:
    """Files are read again, and the lists are in use."""
    [verification] = tls.verifications.values()
    before = verification.contexts.revocations
    door.scene.worker.renew_identity()
    await door.scene.until(lambda: verification.contexts.revocations is not before)


async def test_a_list_that_ends_lets_nobody_in_and_is_told_of(door, tmp_path):
    crl = tmp_path / "crl.pem"
    crl.write_bytes(revocation_list(STAFF))
    tls = await door.open(client_crl=str(crl))
    [verification] = tls.verifications.values()
    context = showing(ANN)
    _, first = await door.visit(context)
    assert tls.soonest_crl_end == verification.contexts.revocations.soonest_end
    tls.wall = verification.wall = lambda: tls.soonest_crl_end + 1
    with capture_logs() as told:
        for _ in range(3):
            verification.tell_not_in_force()
    [event] = told
    assert (event["code"], event["file"]) == ("client_crl_not_in_force", str(crl))
    assert not await door.is_let_in(context)
    assert not await door.is_let_in(context, session=first.tls.session)
    assert tls.failures == {"no_client_crl": 2}


async def test_who_shows_none_is_served_where_it_is_optional_whatever_the_list(door, tmp_path):
    crl = tmp_path / "crl.pem"
    crl.write_bytes(revocation_list(STAFF, [ANN], ends=timedelta(hours=-1)))
    await door.open(client_crl=str(crl), verify_client="optional")
    assert await door.is_let_in(showing(None))
    assert not await door.is_let_in(showing(BOB))


async def test_a_list_that_is_no_good_changes_nothing(door, tmp_path):
    crl = tmp_path / "crl.pem"
    crl.write_bytes(revocation_list(STAFF, [ANN]))
    tls = await door.open(client_crl=str(crl))
    [verification] = tls.verifications.values()
    before = verification.contexts.revocations
    for content in (b"", revocation_list(PARTNERS)):
        crl.write_bytes(content)
        with capture_logs() as told:
            door.scene.worker.renew_identity()
            await door.scene.until(lambda: bool(told))
        assert told[0]["code"] == "client_ca_not_used"
        assert str(crl) in told[0]["reason"]
    assert verification.contexts.revocations is before
    assert not await door.is_let_in(showing(ANN))
    assert await door.is_let_in(showing(BOB))


async def test_an_intermediate_authority_is_enough(door):
    team = STAFF.create_child_ca(key_type=trustme.KeyType.ECDSA)
    door.file.write_bytes(team.cert_pem.bytes())
    await door.open()
    assert await door.is_let_in(showing(issue("carl@staff.test", by=team)))
    assert not await door.is_let_in(showing(ANN)), "the root above it is not believed"


async def test_many_at_once_are_not_mixed_up(door):
    await door.open()
    people = [issue(f"p{number}@staff.test", by=STAFF) for number in range(4)]

    async def come(number: int) -> None:
        context = showing(people[number % 4])
        client = await TlsClient.of(door.scene, context=context)
        await client.write(request("shop.test", f"/{number % 4}"))
        assert (await client.read_reply()).status == 200

    await asyncio.gather(*(come(number) for number in range(24)))
    for got in door.backend.requests:
        assert got["x-client-cert-san"] == b"email=p%b@staff.test" % got.target.strip(b"/")
