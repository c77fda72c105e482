"""What operators and events of the platform do to certificates, and what `styx explain` tells."""

import ssl

import pytest

from edge.admin.explain_text import render
from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING
from edge.run.worker_status_reporter import WorkerStatusReporter
from tests.support.scene import Scene, request
from tests.support.tls_client import TlsClient
from tests.support.tls_parts import issue

NAME = "shop.test"


def issued(scene: Scene, generation: int, *names: str) -> None:
    pair = issue(*names)
    pem = {"chain": pair.chain.decode(), "key": pair.key.decode()}
    scene.core.certificates[names[0]] = {"names": names, "generation": generation, "certificates": [pem]}


async def leaf(scene: Scene) -> bytes:
    client = await TlsClient.of(scene)
    found = client.tls.getpeercert(binary_form=True)
    assert found
    client.leave()
    return found


@pytest.fixture
async def served(scene) -> bytes:
    """The certificate that clients get."""
    scene.listeners({"tls": True})
    issued(scene, 1, NAME)
    return await leaf(scene)


def changed(scene: Scene, *changes: Change) -> None:
    scene.worker.context.resolver.invalidator.changed(changes)


@pytest.mark.parametrize("change", [Change("certificate", "Shop.test."), EVERYTHING], ids=["its own", "everything"])
async def test_an_event_brings_the_new_certificate(scene, served, change):
    issued(scene, 2, NAME)
    assert await leaf(scene) == served, "nothing has told of it"
    changed(scene, change)
    table = scene.worker.context.tls.certificates.table
    await scene.until(lambda: table.look_up(NAME, scene.worker.context.clock(), 0.0).ask_for is not None)
    assert await leaf(scene) == served, "served while it is asked for"
    await scene.until(lambda: len(scene.core.certificates_asked) == 2)
    await scene.until(lambda: table.get(NAME).certificate.generation == 2)
    assert await leaf(scene) != served


async def test_an_event_of_another_name_asks_nothing(scene, served):
    changed(scene, Change("certificate", "other.test"), Change("hostname", NAME))
    await scene.until(lambda: not len(scene.worker.context.resolver.invalidator._pending))
    assert await leaf(scene) == served
    assert len(scene.core.certificates_asked) == 1


async def test_an_operator_invalidates_a_certificate(scene, served):
    issued(scene, 0, NAME)  # a lower generation, which an event would not make believed
    invalidate = scene.worker.context.resolver.invalidator.invalidate
    assert await invalidate(Change("certificate", "other.test")) == 0
    assert await invalidate(Change("certificate", NAME)) == 1
    assert await leaf(scene) != served, "asked for before the next use"


async def test_without_tls_nothing_is_invalidated(scene):
    await scene.edge()
    assert await scene.worker.context.resolver.invalidator.invalidate(Change("certificate", NAME)) == 0
    changed(scene, Change("certificate", NAME), EVERYTHING)
    scene.route(NAME, [scene.backend()])
    assert (await scene.get(NAME)).status == 200


async def test_explain_shows_the_certificate(scene, served):
    text = render(scene.worker.explain(NAME))
    assert "no route yet" in text
    assert f"certificate of {NAME}\n" in text
    assert "days left, fresh; from the core API; issued by " in text
    scene.route(NAME, [scene.backend()])
    client = await TlsClient.of(scene)
    await client.write(request(NAME))
    assert (await client.read_reply()).status == 200
    explained = scene.worker.explain(NAME)
    assert explained.known
    assert explained.certificate.names == [NAME]
    assert explained.certificate.days_left > 1
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        await TlsClient.of(scene, "stranger.test")
    explained = scene.worker.explain("stranger.test")
    assert "no certificate from the core API: the core API has none (404)" in render(explained)
    assert scene.worker.explain("unheard.test") is None


async def test_explain_of_files(scene, tmp_path):
    pair = issue(NAME)
    (tmp_path / f"{NAME}.pem").write_bytes(pair.chain + pair.key)
    (tmp_path / "bad.test.pem").write_bytes(b"-")
    scene.listeners({"tls": True})
    scene.settings(tls={"certificates": f"file:{tmp_path}"})
    await scene.edge()
    assert scene.worker.explain(NAME).certificate.source == str(tmp_path)
    assert "bad.test.pem: " in scene.worker.explain("bad.test").certificate.last_error
    finder = scene.worker.context.tls.certificates
    looks = finder.looks
    assert await scene.worker.context.resolver.invalidator.invalidate(Change("certificate", NAME)) == 1
    await scene.until(lambda: finder.looks > looks)


async def test_the_status_page_tells_which_ends_first(scene, served, tmp_path):
    reporter = WorkerStatusReporter(scene.worker.context)
    [status] = (await reporter.report()).certificates
    assert (status.name, status.source, status.last_error) == (NAME, "the core API", None)
    assert status.not_after == scene.worker.context.tls.certificates.soonest_not_after
