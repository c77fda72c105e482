"""From a hostname to its route: one lookup, three answers, and what is served while nobody answers."""

import asyncio
import json
import time

import pytest

from edge.rules.balancing.circuit_breaker import SHORTEST_PAUSE
from edge.rules.routing.change_records import Change
from tests.support.scene import SHORT, request
from tests.support.scene_core_api import EXPIRED, STALE


async def test_fifty_at_once_ask_once(scene):
    scene.route("shop.test", [scene.backend()])
    scene.core.hold()
    await scene.edge()
    asked = [asyncio.ensure_future(scene.get("shop.test")) for _ in range(50)]
    await scene.core.asked()
    await scene.until(lambda: scene.snapshot.exchanges == 50)
    scene.core.release()
    assert {reply.status for reply in await asyncio.gather(*asked)} == {200}
    assert scene.core.lookups == ["shop.test"]
    assert scene.snapshot.route_misses == 50
    assert (await scene.get("shop.test")).status == 200
    assert scene.snapshot.route_hits == 1
    assert len(scene.core.lookups) == 1


async def test_an_unknown_host(scene):
    for _ in range(2):
        reply = await scene.get("nobody.test")
        assert (reply.status, reply.error) == (404, "unknown_host")
        assert "retry-after" not in reply
        assert scene.letters == "CR"
    assert scene.core.lookups == ["nobody.test"]
    assert scene.snapshot.unknown_hosts == 1


async def test_a_known_host_without_backends(scene):
    scene.route("empty.test")
    reply = await scene.get("empty.test")
    assert (reply.status, reply.error) == (503, "no_backends")
    assert int(reply["retry-after"]) > 0
    assert scene.letters == "AR"
    assert (scene.outcome.site, scene.outcome.environment) == ("empty.test", "live")


async def test_a_site_that_an_operator_drains_is_not_put_down_to_the_core_api(scene):
    scene.route("shop.test", [scene.backend()])
    assert (await scene.get("shop.test")).status == 200
    scene.worker.set_drain("environment", "shop.test/live", 60.0, "alice")
    reply = await scene.get("shop.test")
    assert (reply.status, reply.error) == (503, "drained")
    assert int(reply["retry-after"]) > 0
    assert scene.letters == "ER"
    scene.worker.set_drain("environment", "shop.test/live", 0.0)
    assert (await scene.get("shop.test")).status == 200


async def test_maintenance(scene):
    live = scene.backend()
    scene.route("shop.test", [live], maintenance=True)
    reply = await scene.get("shop.test")
    assert (reply.status, reply.error) == (503, "maintenance")
    assert int(reply["retry-after"]) > 0
    assert not live.connections


async def test_redirect(scene):
    scene.route("old.test", redirect="https://new.test")
    reply = await scene.get("old.test", "/a%2Fb?c")
    assert (reply.status, reply["location"]) == (301, "https://new.test/a%2Fb?c")
    assert reply.error is None
    assert scene.outcome.cause == "redirected"


TROUBLES = [500, 401, 301, 204, "garbage", "silent"]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_could_not_ask_is_never_unknown(scene, trouble):
    scene.settings(core_api={"timeout": SHORT})
    scene.route("shop.test", [scene.backend()])
    scene.core.trouble = trouble
    reply = await scene.get("shop.test")
    assert (reply.status, reply.error) == (503, "lookup_failed")
    assert int(reply["retry-after"]) > 0
    assert scene.letters == "AR"
    assert scene.outcome.resolve_ms < 2000
    assert not scene.snapshot.core_api_up
    scene.core.trouble = None
    assert (await scene.get("shop.test")).status == 200
    assert scene.snapshot.core_api_up


async def test_core_api_gone(scene):
    scene.route("shop.test", [scene.backend()])
    await scene.get("shop.test")
    await scene.core.stop()
    assert (await scene.get("other.test")).error == "lookup_failed"
    assert (await scene.get("shop.test")).status == 200


async def test_stale_is_served_at_once_and_asked_behind_its_back(scene):
    scene.core.cache_control = STALE
    old, new = scene.backend(body=b"old"), scene.backend(body=b"new")
    scene.route("shop.test", [old])
    assert (await scene.get("shop.test")).body == b"old"
    scene.route("shop.test", [new])
    scene.core.hold()
    for _ in range(3):
        assert (await scene.get("shop.test")).body == b"old"
    await scene.core.asked()
    await scene.core.asked()
    scene.core.release()
    await scene.until(lambda: scene.worker.explain("shop.test").backends[0].id == new.name)
    assert (await scene.get("shop.test")).body == b"new"
    assert scene.snapshot.route_stale == 4
    assert len(scene.core.lookups) <= 3


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_stale_lives_through_trouble(scene, trouble):
    scene.core.cache_control = STALE
    scene.route("shop.test", [scene.backend()])
    assert (await scene.get("shop.test")).status == 200
    scene.change("core_api", timeout=SHORT)
    scene.core.trouble = trouble
    assert (await scene.get("shop.test")).status == 200
    await scene.until(lambda: not scene.snapshot.core_api_up)
    assert (await scene.get("shop.test")).status == 200
    assert len(scene.core.lookups) <= 3, "one that fails at once is repeated; after it there is a pause"


async def test_expired_is_asked_first(scene):
    scene.core.cache_control = EXPIRED
    old, new = scene.backend(body=b"old"), scene.backend(body=b"new")
    scene.route("shop.test", [old])
    assert (await scene.get("shop.test")).body == b"old"
    scene.route("shop.test", [new])
    assert (await scene.get("shop.test")).body == b"new"


@pytest.mark.parametrize("trouble", [500, "silent"])
async def test_expired_is_served_if_asking_fails(scene, trouble):
    scene.core.cache_control = EXPIRED
    scene.route("shop.test", [scene.backend()])
    assert (await scene.get("shop.test")).status == 200
    scene.change("core_api", timeout=SHORT)
    scene.core.trouble = trouble
    for _ in range(3):
        assert (await scene.get("shop.test")).status == 200
    assert len(scene.core.lookups) <= 3, "one that fails at once is repeated; after it there is a pause"


async def test_gone_is_not_served(scene):
    scene.core.cache_control = "max-age=0, stale-while-revalidate=0, stale-if-error=0"
    scene.route("shop.test", [scene.backend()])
    await scene.get("shop.test")
    scene.core.trouble = 500
    assert (await scene.get("shop.test")).error == "lookup_failed"


async def test_without_cache_control_the_settings_hold(scene):
    scene.settings(routes={"max_age": 1000, "jitter": 0})
    scene.core.cache_control = None
    scene.route("shop.test", [scene.backend()])
    await scene.get("shop.test")
    assert 990 < scene.worker.explain("shop.test").fresh_for <= 1000


async def test_not_modified_renews(scene):
    scene.core.cache_control = EXPIRED
    scene.core.etags = True
    scene.route("shop.test", [scene.backend()])
    await scene.get("shop.test")
    scene.core.cache_control = "max-age=60"
    assert (await scene.get("shop.test")).status == 200
    assert scene.core.headers[1]["If-None-Match"] == '"1"'
    assert (await scene.get("shop.test")).status == 200
    assert len(scene.core.lookups) == 2


async def test_not_modified_is_not_asked_for_when_no_backend_can_be_connected_to(scene):
    """The core API was restored, and has used its tag again for other containers."""
    scene.core.etags, scene.core.etag = True, '"used again"'
    scene.route("shop.test", [gone := scene.backend()])
    assert (await scene.get("shop.test")).status == 200
    await gone.stop()
    scene.route("shop.test", [scene.backend(body=b"new")])
    told = [(await scene.get("shop.test")).body for _ in range(10)]
    assert told[-1] == b"new"


async def test_not_modified_is_not_asked_for_after_an_operator_has_invalidated(scene):
    scene.core.etags, scene.core.etag = True, '"used again"'
    old, new = scene.backend(body=b"old"), scene.backend(body=b"new")
    scene.route("shop.test", [old])
    assert (await scene.get("shop.test")).body == b"old"
    scene.route("shop.test", [new])
    await scene.worker.context.resolver.invalidator.invalidate(Change("all", ""))
    assert (await scene.get("shop.test")).body == b"new"


async def test_an_older_generation_is_ignored(scene):
    scene.core.cache_control = EXPIRED
    new, old = scene.backend(body=b"new"), scene.backend(body=b"old")
    scene.route("shop.test", [new], generation=10)
    await scene.get("shop.test")
    scene.route("shop.test", [old], generation=9)
    assert (await scene.get("shop.test")).body == b"new"
    assert "lower generation" in scene.worker.explain("shop.test").last_error
    assert scene.snapshot.lower_generation == 1


async def test_a_lower_generation_is_used_when_it_is_repeated(scene):
    """The core API was restored from a backup."""
    scene.settings(routes={"regression_after": 0.02})
    scene.core.cache_control = EXPIRED
    new, old = scene.backend(body=b"new"), scene.backend(body=b"old")
    scene.route("shop.test", [new], generation=2**62)
    await scene.get("shop.test")
    scene.route("shop.test", [old], generation=9)
    while (await scene.get("shop.test")).body == b"new":
        scene.ask_again("shop.test")
    assert scene.snapshot.lower_generation >= 1


async def test_a_lower_generation_is_used_at_once_after_styx_invalidate(scene):
    scene.core.cache_control = EXPIRED
    new, old = scene.backend(body=b"new"), scene.backend(body=b"old")
    scene.route("shop.test", [new], generation=10)
    await scene.get("shop.test")
    scene.route("shop.test", [old], generation=9)
    await scene.worker.context.resolver.invalidator.invalidate(Change("all", ""))
    assert (await scene.get("shop.test")).body == b"old"


async def test_a_response_about_another_hostname_is_never_used(scene):
    """A cache before the core API has mixed up its keys."""
    mine, others = scene.backend(body=b"mine"), scene.backend(body=b"others")
    scene.core.cache_control = EXPIRED
    scene.route("shop.test", [mine])
    assert (await scene.get("shop.test")).body == b"mine"
    scene.core.answer = json.dumps(scene.route("rival.test", [others])).encode()
    assert (await scene.get("shop.test")).body == b"mine"
    assert "about 'rival.test'" in scene.worker.explain("shop.test").last_error
    scene.route("cold.test", [mine])
    reply = await scene.get("cold.test")
    assert (reply.status, reply.error) == (503, "lookup_failed")


async def test_names_that_the_core_api_refuses_cut_off_nobody(scene):
    """Clients choose them."""
    scene.core.trouble = 400
    for n in range(20):
        assert (await scene.get(f"bad_{n}.test")).error == "lookup_failed"
    scene.core.trouble = None
    scene.route("cold.test", [scene.backend()])
    assert (await scene.get("cold.test")).status == 200


async def test_who_names_what_the_core_api_refuses_pays_for_it(scene):
    scene.settings(limits={"unknown_hosts_per_client": 1})
    scene.core.trouble = 400
    said = [(await scene.get(f"bad-{n}.test")).error for n in range(15)]
    assert said[:10] == ["lookup_failed"] * 10
    assert said[-1] == "unknown_host_limit"


async def test_made_up_names_alone_do_not_open_the_circuit_breaker(scene):
    """The core API stumbles over some names, and answers for all others."""
    scene.route("shop.test", [scene.backend()])
    assert (await scene.get("shop.test")).status == 200
    scene.core.stumbles = "made-up"
    for n in range(20):
        assert (await scene.get(f"made-up-{n}.test")).error == "lookup_failed"
    scene.route("cold.test", [scene.backend()])
    assert (await scene.get("cold.test")).status == 200
    assert scene.core.lookups.count("shop.test") > 1, "a known one was asked for, to see"


async def test_the_circuit_is_closed_by_a_known_hostname(scene):
    scene.route("shop.test", [scene.backend()])
    await scene.get("shop.test")
    scene.core.trouble = 500
    for n in range(5):
        await scene.get(f"cold-{n}.test")
    breaker = scene.worker.context.resolver._circuit
    await scene.until(lambda: breaker.is_open)
    scene.core.trouble, scene.core.stumbles = None, "made-up"
    asked = len(scene.core.lookups)
    while breaker.is_open:
        await scene.get("made-up.test")
    assert scene.core.lookups[asked] == "shop.test"


async def test_backends_are_not_this_edge(scene):
    """Whoever writes routes must not reach the admin API, nor lead requests in a circle."""
    edge = await scene.edge()
    scene.route("loop.test", backends=[])["backends"] = [{"id": "b", "address": "127.0.0.1", "port": edge.ports[0]}]
    reply = await scene.get("loop.test")
    assert (reply.status, reply.error) == (503, "lookup_failed")


async def test_networks_where_backends_may_be(scene):
    scene.settings(core_api={"backend_networks": ("10.0.0.0/8",)})
    scene.route("shop.test", [scene.backend()])
    assert (await scene.get("shop.test")).error == "lookup_failed"


async def test_a_backend_by_its_name(scene):
    """What it stands for is checked when it is connected to."""
    live = scene.backend()
    scene.route("shop.test", [live])["backends"][0]["address"] = "localhost"
    assert (await scene.get("shop.test")).status == 200
    scene.worker.context.resolver.policy.reconfigure(None, loopback=False, sockets=False)
    scene.route("other.test", [scene.backend()])["backends"][0]["address"] = "localhost"
    assert (await scene.get("other.test")).error == "connect_failed"


async def test_an_empty_list_is_not_believed_once(scene):
    scene.settings(routes={"removal_hold": 0.02})
    scene.core.cache_control = EXPIRED
    scene.route("shop.test", [scene.backend()], generation=10)
    await scene.get("shop.test")
    scene.route("shop.test", generation=10)
    assert (await scene.get("shop.test")).status == 200
    assert len(scene.core.lookups) == 2
    assert scene.snapshot.removal_unconfirmed == 1
    while (reply := await scene.get("shop.test")).status == 200:
        scene.ask_again("shop.test")
    assert reply.error == "no_backends"


async def test_an_empty_list_of_a_newer_generation_is_believed(scene):
    scene.core.cache_control = EXPIRED
    scene.route("shop.test", [scene.backend()], generation=10)
    await scene.get("shop.test")
    scene.route("shop.test", generation=11)
    assert (await scene.get("shop.test")).error == "no_backends"


async def test_a_host_that_comes_into_being(scene):
    scene.core.cache_control = EXPIRED
    assert (await scene.get("new.test")).error == "unknown_host"
    scene.route("new.test", [scene.backend()])
    assert (await scene.get("new.test")).status == 200


async def test_a_host_that_is_deleted_is_gone_when_that_is_confirmed(scene):
    """A core API that has lost its data for a moment takes no site down."""
    scene.core.cache_control = EXPIRED
    scene.route("old.test", [scene.backend()])
    assert (await scene.get("old.test")).status == 200
    del scene.core.routes["old.test"]
    assert (await scene.get("old.test")).status == 200
    scene.worker.context.table.invalidate("old.test")  # or in five seconds
    assert (await scene.get("old.test")).error == "unknown_host"


async def test_spellings_of_one_hostname(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    for host in ("shop.test", "SHOP.test", "Shop.Test:8080", "shop.test.", "shop.test.:80", "shop.test:"):
        assert (await scene.get(host)).status == 200, host
        assert live.last["host"] == host.encode()
        assert scene.outcome.host == "shop.test"
    assert scene.core.lookups == ["shop.test"]


@pytest.mark.parametrize("host", ["-a.test", "a-.test", "[::1]"])
async def test_impossible_hostnames_are_never_asked_for(scene, host):
    reply = await scene.get(host)
    assert (reply.status, reply.error) == (404, "unknown_host")
    assert not scene.core.lookups


@pytest.mark.parametrize("host", ["a..test", "x" * 64 + ".test", ".", "ab" + ".bcd" * 63, "[::g]"])
async def test_what_is_no_hostname_is_not_asked_for_either(scene, host):
    reply = await scene.get(host)
    assert (reply.status, reply.error) == (400, "bad_request")
    assert not scene.core.lookups


async def test_a_client_with_a_body_waits_for_the_route(scene):
    """The body is neither lost nor read without bounds while nobody knows where it goes."""
    live = scene.backend()
    scene.route("shop.test", [live])
    scene.core.hold()
    client = await scene.client()
    body = bytes(range(256)) * 40_000
    writing = asyncio.ensure_future(client.write(request("shop.test", method="POST", body=body)))
    await scene.core.asked()
    scene.core.release()
    await writing
    assert (await client.read_reply()).status == 200
    assert live.last.body == body


async def test_hosts_of_one_environment_share_what_was_learned(scene):
    dead, live = scene.dead(), scene.backend()
    for host in ("a.test", "b.test"):
        scene.route(host, [dead, live], site="shop", environment="live")
    await scene.get("a.test")
    assert scene.tried == [dead.name, live.name]
    assert scene.worker.context.table.get("a.test").active[0].state.unreachable == 1
    assert scene.snapshot.environments == 1


async def test_nobody_waits_for_a_core_api_that_fails(scene):
    """Five hostnames had to wait for its timeout; then those that are known are served, others refused, at once."""
    live = scene.backend()
    scene.route("shop.test", [live])
    assert (await scene.get("shop.test")).status == 200
    scene.change("core_api", timeout=SHORT)
    scene.core.hold()
    began = time.monotonic()
    async with asyncio.timeout(100):
        # Once more on a busy machine, where some do not come so far.
        while not scene.worker.context.resolver.lookup_state("s0.test").circuit_open:
            await asyncio.gather(*(scene.get(f"s{n}.test") for n in range(5)))
    asked = len(scene.core.lookups)
    scene.worker.context.table.invalidate("shop.test")
    for host, status in (("shop.test", 200), ("other.test", 503)):
        assert (await scene.get(host)).status == status
    half_open = int((time.monotonic() - began) / SHORTEST_PAUSE)  # none, unless the machine is very slow
    assert len(scene.core.lookups) <= asked + half_open
    scene.core.release()
    scene.route("other.test", [live])
    async with asyncio.timeout(100):
        while (await scene.get("other.test")).status != 200:
            pass
