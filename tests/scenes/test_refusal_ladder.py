"""The refusal ladder: who may be tried again after what (DESIGN, section 5.3)."""

import asyncio

import pytest

from tests.support.scene import MIB, SHORT, Received, Wire, chunked, request

BOTH = pytest.mark.parametrize("method", ["GET", "POST"])
KIB = 1024


async def ask(scene, method, body=b"a=1"):
    return await (scene.get("shop.test") if method == "GET" else scene.post("shop.test", body=body))


# A: no request byte was written


@BOTH
async def test_a_dead_backend_is_passed_over(scene, method):
    dead, live = scene.dead(), scene.backend()
    scene.route("shop.test", [dead, live])
    assert (await ask(scene, method)).status == 200
    assert scene.attempts == ["connect_failed", "ok"]
    assert live.last["x-styx-attempt"] == b"2"
    states = scene.worker.context.table.get("shop.test").states
    assert [state.unreachable for state in states] == [1, 0]


@BOTH
async def test_an_unreachable_backend_is_passed_over(scene, method):
    scene.settings(timeouts={"connect": SHORT})
    lost, live = scene.unreachable(), scene.backend()
    scene.route("shop.test", [lost, live])
    assert (await ask(scene, method)).status == 200
    assert scene.attempts == ["connect_timeout", "ok"]
    assert scene.explained("shop.test", lost).condition == "down"


@BOTH
async def test_all_dead(scene, method):
    scene.route("shop.test", [scene.dead() for _ in range(3)])
    reply = await ask(scene, method)
    assert (reply.status, reply.error) == (502, "connect_failed")
    assert len(set(scene.tried)) == 3


@BOTH
async def test_all_unreachable(scene, method):
    scene.settings(timeouts={"connect": SHORT})
    scene.route("shop.test", [scene.unreachable() for _ in range(2)])
    reply = await ask(scene, method)
    assert (reply.status, reply.error) == (504, "connect_timeout")


async def test_letters_of_all_dead(scene):
    """The same, whether or not the core API was asked again in between."""
    scene.route("shop.test", [scene.dead()])
    for _ in range(2):
        await scene.get("shop.test")
        assert scene.letters == "BC"


async def test_all_tries_to_connect_have_one_deadline(scene):
    scene.settings(timeouts={"connect": SHORT, "connect_total": 1.5 * SHORT})
    scene.route("shop.test", [scene.unreachable() for _ in range(4)])
    assert (await scene.get("shop.test")).error == "connect_timeout"
    assert len(scene.attempts) == 2


@pytest.mark.parametrize("coding", ["length", "chunked"])
async def test_a_large_body_moves_on_from_a_dead_backend(scene, coding):
    dead, live = scene.dead(), scene.backend()
    scene.route("shop.test", [dead, live])
    body = bytes(range(256)) * 4 * KIB
    if coding == "length":
        reply = await scene.post("shop.test", body=body)
    else:
        head = request("shop.test", headers=[("Transfer-Encoding", "chunked")], method="POST")
        reply = await scene.ask(head + chunked(body[:1000], body[1000:]), "POST")
    assert reply.status == 200
    assert live.last.body == body
    assert scene.attempts == ["connect_failed", "ok"]
    assert scene.outcome.bytes_in == MIB


# B: proved not processed


@BOTH
@pytest.mark.parametrize("size", [0, 3, 64 * KIB])
async def test_a_refusal_moves_on_with_the_body(scene, method, size):
    full, live = scene.refusing(), scene.backend()
    scene.route("shop.test", [full, live])
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert (await ask(scene, method, body)).status == 200
    assert scene.attempts == ["refused", "ok"]
    assert live.last.body == (body if method == "POST" else b"")
    assert live.last["x-styx-attempt"] == b"2"
    assert scene.points("shop.test", full) == 0, "it is load, not sickness"


async def test_a_refused_chunked_body_is_sent_again(scene):
    full, live = scene.refusing(), scene.backend()
    scene.route("shop.test", [full, live])
    head = request("shop.test", headers=[("Transfer-Encoding", "chunked")], method="POST")
    assert (await scene.ask(head + chunked(b"abc", b"d" * 5000))).status == 200
    assert live.last.body == b"abc" + b"d" * 5000


async def test_a_refusal_before_the_body_came(scene):
    """The rest of the body goes to the one that takes it."""
    full, live = scene.refusing(after=10), scene.backend()
    scene.route("shop.test", [full, live])
    client = await scene.client()
    body = b"0123456789" * 1000
    await client.write(request("shop.test", method="POST", body=body)[: -len(body) + 10])
    await live.got_head()
    await client.write(body[10:])
    assert (await client.read_reply()).status == 200
    assert live.last.body == body
    assert scene.attempts == ["refused", "ok"]


async def test_a_refused_body_beyond_the_buffer_is_not_sent_again(scene):
    full, live = scene.refusing(after=200 * KIB), scene.backend()
    scene.route("shop.test", [full, live])
    reply = await scene.post("shop.test", body=b"x" * MIB)
    assert (reply.status, reply.error) == (503, "all_refused")
    assert scene.attempts == ["refused"]
    assert not live.requests


async def test_a_large_body_is_refused_by_its_head(scene):
    """What could be said once only is asked for first, so a full container costs no upload."""
    full, live = scene.scripted(full_at_once), scene.backend()
    scene.route("shop.test", [full, live])
    body = bytes(range(256)) * 4 * KIB
    reply = await scene.post("shop.test", body=body)
    assert (reply.status, reply.interim) == (200, [])
    assert scene.attempts == ["refused", "ok"]
    assert live.last.body == body
    assert full.bytes_in == len(full.last.head)


async def test_a_backend_that_does_not_say_go_on_gets_the_body_all_the_same(scene):
    async def script(wire: Wire, got: Received) -> None:
        got.body = await wire.exactly(MIB)
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    live = scene.scripted(script)
    scene.route("shop.test", [live])
    assert (await scene.post("shop.test", body=b"x" * MIB)).status == 200
    assert live.last["expect"] == b"100-continue"
    assert live.last.body == b"x" * MIB


async def full_at_once(wire: Wire, got: Received) -> None:
    await wire.send(b"HTTP/1.1 503 Full\r\nX-Styx-Refused: queue\r\nContent-Length: 0\r\n\r\n")


@BOTH
async def test_all_refuse(scene, method):
    full = [scene.refusing() for _ in range(4)]
    scene.route("shop.test", full)
    reply = await ask(scene, method)
    assert (reply.status, reply.error) == (503, "all_refused")
    assert int(reply["retry-after"]) > 0
    assert [len(backend.requests) for backend in full] == [1, 1, 1, 1]
    assert scene.attempts == ["refused"] * 4
    assert scene.letters == "BH"
    assert "x-styx-refused" not in reply


async def test_refused_and_dead_is_refused(scene):
    scene.route("shop.test", [scene.refusing(), scene.dead()])
    assert (await scene.get("shop.test")).error == "all_refused"


async def test_as_many_attempts_as_are_set(scene):
    scene.settings(retries={"attempts": 3})
    scene.route("shop.test", [scene.refusing() for _ in range(6)])
    assert (await scene.get("shop.test")).error == "all_refused"
    assert len(scene.attempts) == 3


async def test_retry_after_is_honoured(scene):
    full, live = scene.refusing(retry_after=7), scene.backend()
    scene.route("shop.test", [full, live])
    for _ in range(3):
        assert (await scene.get("shop.test")).status == 200
    assert len(full.requests) == 1
    assert 6 < scene.explained("shop.test", full).rests_for <= 7


async def test_retry_after_is_honoured_up_to_ten_seconds(scene):
    full = scene.refusing(retry_after=3600)
    scene.route("shop.test", [full, scene.backend()])
    await scene.get("shop.test")
    assert 9 < scene.explained("shop.test", full).rests_for <= 10


async def test_budget_for_refusals(scene):
    scene.settings(retries={"unprocessed_ratio": 0.0, "unprocessed_per_second": 0.0, "unprocessed_cap": 2.0})
    scene.route("shop.test", [scene.refusing(), scene.backend()])
    assert [(await scene.get("shop.test")).status for _ in range(4)] == [200, 200, 503, 503]
    assert scene.snapshot.retries_exhausted == 2


# C: nobody knows what happened

EARLY = {
    "closed": (lambda scene: scene.raw(b"", then="close"), "closed_early", "closed_early"),
    "reset": (lambda scene: scene.raw(b"", then="reset"), "closed_early", "closed_early"),
    "half a head": (
        lambda scene: scene.raw(b"HTTP/1.1 200 OK\r\nA: b", then="close"),
        "closed_early",
        "closed_early",
    ),
    "garbage": (lambda scene: scene.raw(b"SSH-2.0-dropbear\r\n\r\n"), "bad_answer", "bad_answer"),
    "two lengths": (
        lambda scene: scene.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        "bad_answer",
        "bad_answer",
    ),
    "length and chunked": (
        lambda scene: scene.raw(
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        "bad_answer",
        "bad_answer",
    ),
    "101": (lambda scene: scene.raw(b"HTTP/1.1 101 Sure\r\nUpgrade: x\r\n\r\n"), "bad_answer", "bad_answer"),
    "http/2": (
        lambda scene: scene.raw(b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
        "bad_answer",
        "bad_answer",
    ),
    "bad chunk": (
        lambda scene: scene.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        "bad_answer",
        "bad_answer",
    ),
}


TOO_LARGE = {
    "never ends": ({}, b"A: " + b"x" * 70_000, ("limits.response_head", 65_537, 65_536)),
    "ends": ({"response_head": 1024}, b"A: " + b"x" * 2000 + b"\r\n\r\n", ("limits.response_head", 2024, 1024)),
    "fields": ({"response_fields": 3}, b"A: b\r\n" * 5 + b"\r\n", ("limits.response_fields", 5, 3)),
}
"Limits, what follows the status line, and what is told of it."


@pytest.mark.parametrize("case", TOO_LARGE)
async def test_a_response_head_that_is_too_large(scene, caplog, case):
    """The next backend would say the same; and whoever runs the site wants to know by how much."""
    limits, fields, (limited_by, size, limit) = TOO_LARGE[case]
    scene.settings(limits=limits)
    live = scene.raw(b"HTTP/1.1 200 OK\r\n" + fields)
    scene.route("shop.test", [live, scene.backend()])
    reply = await scene.get("shop.test")
    assert (reply.status, reply.error) == (502, "response_too_large")
    assert scene.attempts == ["response_too_large"]
    [told] = [vars(record) for record in caplog.records if record.name == "styx.pool"]
    assert (told["code"], told["msg"]) == ("response_too_large", "response head too large")
    assert told["backend"].startswith(f"{live.name}@127.0.0.1:")
    assert (told["limited_by"], told["limit"]) == (limited_by, limit)
    assert told["size"] == size if case != "never ends" else told["size"] >= size


async def test_response_heads_up_to_the_limits_pass(scene):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: b\r\n"
    scene.settings(limits={"response_fields": 3, "response_head": 1024})
    scene.route("shop.test", [scene.raw(head + b"B: " + b"x" * (1024 - len(head) - 3) + b"\r\n\r\n")])
    assert (await scene.get("shop.test")).status == 200


async def test_a_site_cannot_fill_the_event_log(scene, caplog):
    scene.route("shop.test", [scene.raw(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000) for _ in range(2)])
    for _ in range(30):
        await scene.get("shop.test")
    logged = [record for record in caplog.records if record.name == "styx.pool"]
    assert 20 <= len(logged) <= 29


@pytest.mark.parametrize("early", EARLY)
async def test_get_after_no_response_is_retried_once(scene, early):
    make, cause, error = EARLY[early]
    scene.route("shop.test", [make(scene), scene.backend()])
    assert (await scene.get("shop.test")).status == 200
    assert scene.attempts == [cause, "ok"]
    scene.route("bad.test", [make(scene), make(scene), scene.backend()])
    reply = await scene.get("bad.test")
    assert (reply.status, reply.error) == (502, error)
    assert scene.attempts == [cause, cause]
    assert scene.letters in ("BS", "BH")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("early", EARLY)
async def test_post_after_no_response_is_never_retried(scene, early, method):
    make, cause, error = EARLY[early]
    live = scene.backend()
    scene.route("shop.test", [make(scene), live])
    reply = await scene.post("shop.test", method=method)
    assert (reply.status, reply.error) == (502, error)
    assert scene.attempts == [cause]
    assert not live.requests


@pytest.mark.parametrize("status", [502, 504, 560])
async def test_gateway_errors_of_a_backend(scene, status):
    bad, live = scene.backend(status=status, body=b"mine"), scene.backend()
    scene.route("shop.test", [bad, live])
    assert (await scene.get("shop.test")).status == 200
    assert scene.attempts == ["retry_requested" if status == 560 else "gateway_error", "ok"]
    reply = await scene.post("shop.test")
    assert (reply.status, reply.body, reply.error) == (status, b"mine", None)
    assert len(scene.attempts) == 1


async def test_gateway_errors_of_all_backends_pass(scene):
    """Repeated once; then the second one's own response goes to the client."""
    scene.route("shop.test", [scene.backend(status=502, body=b"mine") for _ in range(3)])
    reply = await scene.get("shop.test")
    assert (reply.status, reply.body, reply.error) == (502, b"mine", None)
    assert scene.attempts == ["gateway_error", "gateway_error"]


async def test_budget_for_failures(scene):
    scene.settings(retries={"failed_ratio": 0.0, "failed_per_second": 0.0, "failed_cap": 2.0})
    scene.settings(demerits={"error_points": 0.0})
    scene.route("shop.test", [scene.raw(b"", then="close"), scene.backend()])
    assert [(await scene.get("shop.test")).status for _ in range(4)] == [200, 200, 502, 502]
    assert scene.snapshot.retries_exhausted == 2


async def test_a_container_dies_with_all_its_requests_in_flight(scene):
    """The budget suffices for that, as it is set by default."""
    together = asyncio.Barrier(40)

    async def dying(wire: Wire, _: Received) -> None:
        await together.wait()
        wire.reset()

    other = scene.backend()
    scene.route("shop.test", [scene.scripted(dying), other])
    scene.dice = 0.0  # the first one
    await scene.edge()
    replies = await asyncio.gather(*(scene.get("shop.test") for _ in range(40)))
    assert [reply.status for reply in replies] == [200] * 40
    assert scene.attempts == ["closed_early", "ok"]
    assert len(other.requests) == 40


# D: anything else


@BOTH
@pytest.mark.parametrize("status", [500, 501, 503, 505, 404, 429])
async def test_the_application_s_own_errors_pass(scene, method, status):
    own = scene.backend(status=status, body=b"mine", headers=[("Retry-After", "9")])
    other = scene.backend()
    scene.route("shop.test", [own, other])
    reply = await ask(scene, method)
    assert (reply.status, reply.body, reply.error) == (status, b"mine", None)
    assert reply["retry-after"] == "9"
    assert len(scene.attempts) == 1
    assert scene.letters == "--"
    assert not other.requests


@BOTH
async def test_never_after_a_byte_of_the_response(scene, method):
    async def early(wire: Wire, got: Received) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1")
        wire.close()

    other = scene.backend()
    scene.route("shop.test", [scene.scripted(early), other])
    client = await scene.client()
    await client.write(request("shop.test", method=method, body=b"" if method == "POST" else None))
    with pytest.raises(Exception, match="closed"):
        await client.read_reply()
    assert scene.attempts == ["truncated"]
    assert not other.requests


async def test_a_failed_and_a_refused_attempt(scene):
    """A refusal proves nothing about the attempt before; one failure is enough."""
    scene.route(
        "shop.test", [scene.raw(b"", then="close"), scene.refusing(), scene.raw(b"", then="close"), scene.backend()]
    )
    reply = await scene.get("shop.test")
    assert scene.attempts == ["closed_early", "refused", "closed_early"]
    assert reply.error == "all_refused"


async def test_many_at_once_each_finds_its_way(scene):
    scene.route("shop.test", [scene.dead(), scene.refusing(), scene.backend(), scene.backend()])
    await scene.edge()
    replies = await asyncio.gather(*(ask(scene, method) for method in ["GET", "POST"] * 25))
    assert {reply.status for reply in replies} == {200}


@pytest.mark.parametrize(("trusted", "attempts"), [(("127.0.0.0/8",), 1), ((), 2)])
async def test_attempts_of_two_edges_do_not_multiply(scene, trusted, attempts):
    """The edge before us, if it is one, tries elsewhere itself."""
    scene.listeners({"trusted": trusted})
    full, live = scene.refusing(), scene.backend()
    scene.route("shop.test", [full, live])
    reply = await scene.get("shop.test", headers=[("X-Styx-Attempt", "1")])
    assert reply.status == (503 if attempts == 1 else 200)
    assert len(scene.attempts) == attempts
    assert all(b.last["x-styx-attempt"] == b"%d" % n for n, b in enumerate((full, live)[:attempts], 1))
