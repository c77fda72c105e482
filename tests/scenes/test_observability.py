"""What is told about a request: the access log, the outcome, the explanation, the counters."""

import asyncio
import json

import msgspec

from edge.rules.exchange_records import Outcome
from tests.support.scene import request


async def test_a_line_of_the_access_log(scene, tmp_path):
    path = tmp_path / "access.log"
    scene.settings(access_log={"path": str(path), "flush_interval": 0.01})
    dead, live = scene.dead(), scene.backend()
    scene.route("shop.test", [dead, live])
    reply = await scene.post("shop.test", "/a?b=ä", body=b"12345")
    await scene.until(lambda: path.exists() and path.read_bytes().endswith(b"\n"))
    [line] = path.read_text().splitlines()
    logged = json.loads(line)
    assert set(Outcome.__struct_fields__) <= set(logged)
    assert logged["id"] == reply["x-request-id"]
    assert (logged["method"], logged["host"], logged["status"]) == ("POST", "shop.test", 200)
    assert logged["target"].startswith("/a?b=")
    assert (logged["bytes_in"], logged["bytes_out"]) == (5, 5)
    assert (logged["site"], logged["environment"], logged["backend"]) == ("shop.test", "live", live.name)
    assert (logged["phase"], logged["blame"], logged["cause"]) == ("-", "-", "ok")
    assert [(a["backend"], a["result"], a["status"]) for a in logged["attempts"]] == [
        (dead.name, "connect_failed", 0),
        (live.name, "ok", 200),
    ]
    assert logged["client"] == "127.0.0.1"
    assert logged["total_ms"] >= logged["resolve_ms"] > 0


async def test_lines_of_many_requests(scene, tmp_path):
    path = tmp_path / "access.log"
    scene.settings(access_log={"path": str(path), "flush_interval": 0.01})
    scene.route("shop.test", [scene.backend()])
    await scene.edge()
    await asyncio.gather(*(scene.get("shop.test", f"/{n}") for n in range(200)))
    await scene.until(lambda: path.exists() and path.read_bytes().count(b"\n") == 200)
    logged = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["target"] for line in logged} == {f"/{n}" for n in range(200)}
    assert len({line["id"] for line in logged}) == 200


async def test_evil_bytes_do_not_break_a_line(scene, tmp_path):
    path = tmp_path / "access.log"
    scene.settings(access_log={"path": str(path), "flush_interval": 0.01})
    scene.route("shop.test", [scene.backend()])
    for target in ('/"\\"', "/%0a%0d", "/\u2028ä"):
        await scene.get("shop.test", target)
    await scene.get('"evil')
    await scene.until(lambda: path.exists() and path.read_bytes().count(b"\n") == 4)
    assert len([json.loads(line) for line in path.read_bytes().splitlines()]) == 4


async def test_every_exchange_is_reported_once(scene):
    scene.route("shop.test", [scene.backend()])
    scene.route("dead.test", [scene.dead()])
    client = await scene.client()
    hosts = ["shop.test", "dead.test", "nobody.test"] * 5
    for host in hosts:
        await client.write(request(host))
        await client.read_reply()
    assert [outcome.host for outcome in scene.outcomes] == hosts
    assert len({outcome.id for outcome in scene.outcomes}) == len(hosts)
    request_counters = {"ok": 5, "connect_failed": 5, "unknown_host": 5}
    assert {cause: [o.cause for o in scene.outcomes].count(cause) for cause in request_counters} == request_counters


async def test_times(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    await scene.get("shop.test")
    first = scene.outcome
    assert first.resolve_ms > 0
    assert first.connect_ms > 0
    assert first.first_byte_ms > 0
    assert first.total_ms >= first.resolve_ms + first.first_byte_ms
    await scene.get("shop.test")
    assert scene.outcome.resolve_ms == 0
    assert scene.outcome.connect_ms == 0
    assert scene.outcome.total_ms >= scene.outcome.first_byte_ms > 0


async def test_an_outcome_of_a_request_that_nobody_could_read(scene):
    await scene.send_raw(b"\x00\r\n\r\n")
    assert (scene.outcome.host, scene.outcome.method, scene.outcome.status) == ("", "", 400)
    assert scene.outcome.attempts == []
    assert msgspec.json.decode(msgspec.json.encode(scene.outcome), type=Outcome) == scene.outcome


async def test_explained(scene):
    dead, live = scene.dead(), scene.backend()
    route = scene.route("shop.test", [dead, live])
    await scene.get("shop.test")
    explained = scene.worker.explain("shop.test")
    assert (explained.known, explained.freshness, explained.generation) == (True, "fresh", route["generation"])
    assert (explained.site, explained.environment) == ("shop.test", "live")
    assert explained.last_error is None
    assert [failed.cause for failed in scene.explained("shop.test", dead).failures] == ["connect_failed"]
    assert scene.explained("shop.test", live).samples == 1
    assert scene.explained("shop.test", live).probability == 1.0
    await scene.get("nobody.test")
    assert scene.worker.explain("nobody.test").known is False
    assert scene.worker.explain("never.test") is None


async def test_counters(scene):
    scene.route("shop.test", [scene.backend()])
    for host in ("shop.test", "shop.test", "nobody.test", "nobody.test"):
        await scene.get(host)
    snapshot = scene.snapshot
    assert (snapshot.route_misses, snapshot.route_hits) == (2, 2)
    assert snapshot.unknown_hits == 2
    assert (snapshot.routes, snapshot.unknown_hosts, snapshot.environments) == (1, 1, 1)
    assert (snapshot.links_opened, snapshot.links_reused, snapshot.links_idle) == (1, 1, 1)
    assert snapshot.client_connections_accepted == 4
