"""What must become of a case of the corpus, worked out from its bytes alone, and what is wrong when it does not.

Every end-to-end field must arrive with the same name, value and order. What the edge writes itself (`OURS`) is
checked by its own rule; every other exception is said by the case.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.corpus.corpus_files import Case, Expected
from tests.support.strict_reader import Lines, Message, read_request, read_requests, read_response

ADDED = frozenset(
    b"via x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-real-ip x-request-id"
    b" x-styx-backend x-styx-attempt".split()
)
"On every request, once (docs/contracts.md)."
OURS = ADDED | frozenset(b"host content-length transfer-encoding connection expect te upgrade max-forwards".split())
ADDED_TO_RESPONSES = frozenset(b"x-request-id x-styx-edge x-styx-backend".split())
OURS_OF_RESPONSES = ADDED_TO_RESPONSES | frozenset(b"content-length transfer-encoding connection upgrade".split())
LARGE = 64 * 1024
"A body beyond this, and one of unknown length, may be asked for with an Expect of the edge's own."
REASONS = {
    400: {b"bad_request", b"empty_host"},
    405: {b"method_not_allowed"},
    413: {b"body_too_large"},
    414: {b"uri_too_long"},
    417: {b"expectation_failed"},
    431: {b"headers_too_large"},
    501: {b"bad_request"},
    502: {b"bad_answer", b"response_too_large"},
    505: {b"bad_request"},
    508: {b"loop_detected"},
}
"X-Styx-Error by status."


@dataclass(frozen=True)
class Edge:
    """What the edge says about itself and its client."""

    client: bytes = b"192.0.2.7"
    port: bytes = b"80"
    backend: bytes = b"b0"
    name: bytes = b"edge-1"


def requests_of(case: Case) -> list[Message]:
    """The legal requests in what the client of this case sends. All of its bytes, if it is legal."""
    found, rest = read_requests(case.data)
    if case.hostile:
        assert len(found) >= case.before, f"{case}: what is before it is not legal"
        return found[: case.before]
    if case.tunnel is not None:
        found, rest = found[:1], case.data[read_request(case.data)[1] :]
    assert found, f"{case}: an independent reader finds no request in it"
    assert rest == (case.tunnel or b""), f"{case}: there is more behind the requests: {rest!r}"
    return found


def hostname(request: Message) -> str:
    """What the edge asks the core API for."""
    host = b"".join(request.values(b"host")).decode("latin-1").lower()
    name, colon, port = host.rpartition(":")
    return (name if colon and (not port or port.isdigit()) and not name.endswith(":") else host).removesuffix(".")


def wrong_request(sent: Message, got: Message, case: Case | None, edge: Edge) -> Iterator[str]:
    """What is wrong with a request at the backend. `case`: its exceptions are meant for this one."""
    changed = (case.arrives if case is not None else None) or {}
    target = case.target if case is not None and case.target is not None else sent.first[1]
    if got.first != (sent.first[0], target, b"HTTP/1.1"):
        yield f"request line {got.first}"
    yield from _wrong_lines(sent.fields, got.fields, changed, OURS)
    yield from _wrong_lines(sent.trailers, got.trailers, (case.trailers if case else None) or {}, frozenset())
    if got.body != sent.body:
        yield f"body of {len(got.body)} bytes: {got.body[:200]!r}"
    for name, values in _must_have(sent, changed, edge).items():
        if tuple(got.values(name)) not in values:
            yield f"{name.decode()} is {got.values(name)}, not {values}"


def _must_have(sent: Message, changed: Expected, edge: Edge) -> dict[bytes, set[tuple[bytes, ...]]]:
    """Fields that the edge writes, and which values they may have."""
    host = sent.values(b"host")
    old = sent.first[2] == b"HTTP/1.0"
    via = b", ".join([*filter(None, sent.values(b"via")), b"1.0 styx" if old else b"1.1 styx"])
    must = {
        b"via": {(via,)},
        b"host": {tuple(host)},
        b"x-forwarded-for": {(edge.client,)},
        b"x-real-ip": {(edge.client,)},
        b"x-forwarded-proto": {(b"http",)},
        b"x-forwarded-port": {(edge.port,)},
        b"x-styx-backend": {(edge.backend,)},
        b"x-styx-attempt": {(b"1",)},
        b"content-length": {tuple(b"%d" % int(value) for value in sent.values(b"content-length"))},
        b"transfer-encoding": {(b"chunked",)} if sent.chunked else {()},
        b"connection": {()},
        b"te": {()},
        b"upgrade": {()},
        b"max-forwards": {tuple(sent.values(b"max-forwards"))},
        b"expect": {(b"100-continue",)} if sent.values(b"expect") and not old else {()},
    }
    for name, values in changed.items():
        if name.encode() in OURS:
            must[name.encode()] = {values}
    must[b"x-forwarded-host"] = must[b"host"]
    if sent.chunked or len(sent.body) > LARGE:
        must[b"expect"].add((b"100-continue",))
    return must


def wrong_response(sent: Message, got: Message, case: Case, request: Message, edge: Edge) -> Iterator[str]:
    """What is wrong with a backend's response at the client."""
    if got.first != (b"HTTP/1.1", *sent.first[1:]):
        yield f"status line {got.first}"
    changed = case.arrives or {}
    dated = bool(sent.values(b"date")) or sent.first[1] == b"101"
    yield from _wrong_lines(
        sent.fields, got.fields, changed, OURS_OF_RESPONSES if dated else OURS_OF_RESPONSES | {b"date"}
    )
    if not dated and len(got.values(b"date")) != 1:
        yield f"dates {got.values(b'date')}"
    yield from _wrong_lines(sent.trailers, got.trailers, case.trailers or {}, frozenset())
    if got.body != sent.body:
        yield f"body of {len(got.body)} bytes: {got.body[:200]!r}"
    if got.values(b"x-styx-edge") != [edge.name] or got.values(b"x-styx-backend") != [edge.backend]:
        yield f"by {got.values(b'x-styx-edge')} and {got.values(b'x-styx-backend')}"
    lengths = [b"%d" % int(value) for value in sent.values(b"content-length")] if sent.first[1] != b"204" else []
    if not got.chunked and got.values(b"content-length") != lengths:
        yield f"length {got.values(b'content-length')}"
    if got.chunked and lengths:
        yield "chunked, though its length is known"
    if got.values(b"upgrade") != list(changed.get("upgrade", ())):
        yield f"upgrade {got.values(b'upgrade')}"
    wanted = [] if request.first[2] == b"HTTP/1.0" else [i for i in sent.interim if i.first[1] != b"100"]
    passed_on = [i for i in got.interim if i.first[1] != b"100"]
    if [i.first[1] for i in wanted] != [i.first[1] for i in passed_on]:
        yield f"interim responses {[i.first for i in passed_on]}"
    else:
        for before, after in zip(wanted, passed_on, strict=True):
            yield from _wrong_lines(before.fields, after.fields, changed, OURS_OF_RESPONSES)


def wrong_refusal(got: Message, status: int, reason: str, edge: Edge) -> Iterator[str]:
    """What is wrong with a response of the edge's own."""
    if got.status != status:
        yield f"status {got.status}, not {status}"
    reasons = {reason.encode()} if reason else REASONS.get(got.status, set())
    if len(got.values(b"x-styx-error")) != 1 or got.values(b"x-styx-error")[0] not in reasons:
        yield f"X-Styx-Error {got.values(b'x-styx-error')}"
    if got.values(b"x-styx-edge") != [edge.name] or len(got.values(b"x-request-id")) != 1:
        yield "it does not say by whom it is"
    if got.values(b"cache-control") != [b"no-store"]:
        yield "it may be cached"


def keeps_alive(message: Message) -> bool:
    """Whether its sender means to go on (RFC 9112, section 9.3)."""
    said = {option.strip().lower() for value in message.values(b"connection") for option in value.split(b",")}
    return b"close" not in said and (b"HTTP/1.1" in message.first or b"keep-alive" in said)


def response_of(case: Case) -> tuple[Message, Message, bytes]:
    """The request of a legal case of the responses, its response, and the bytes behind a 101."""
    [request], _ = read_requests(case.request)
    response, end = read_response(case.data, method=request.first[0], ended=case.closes)
    assert end == len(case.data) or response.status == 101, f"{case}: there is more behind the response"
    return request, response, case.data[end:]


def _wrong_lines(sent: Lines, got: Lines, changed: Expected, ours: frozenset[bytes]) -> Iterator[str]:
    """Compare the fields that are not the edge's own, in order."""
    left = {name: list(values) for name, values in changed.items()}
    want = []
    for name, value in sent:
        lower = name.lower()
        if lower in ours:
            continue
        if lower.decode() not in left:
            want.append((name, value))
        elif left[lower.decode()]:
            want.append((name, left[lower.decode()].pop(0)))
    have = [(name, value) for name, value in got if name.lower() not in ours]
    if want != have:
        yield f"fields {_difference(want, have)}"


def _difference(want: Sequence[object], have: Sequence[object]) -> str:
    lost = [line for line in want if line not in have]
    more = [line for line in have if line not in want]
    return f"lost {lost[:5]}, too many {more[:5]}" if lost or more else f"in another order: {have[:10]}"
