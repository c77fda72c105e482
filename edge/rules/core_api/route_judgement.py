"""Checks a core API's responses to route lookups against the contract, and against what styx would make of them.

The reading of bodies is that of the client (`route_response`, `route_validation`): what it would reject is a fault
here. Pure.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Final, NamedTuple

import msgspec

from edge.rules.core_api.contract_findings import ContractFinding, CoreApiReply, fault, note, ok, warning
from edge.rules.routing.freshness import LONGEST, LONGEST_UNKNOWN, Lifetime, lifetime_of
from edge.rules.routing.route_response import RouteResponse
from edge.rules.routing.route_validation import LONGEST_ETAG, BackendPolicy, InvalidResponse, checked

SLOW: Final = 0.5
"Seconds after which a response is slow: the first visitor of a site waits for it."
MOST_BYTES: Final = 1024 * 1024
"Bytes of a response that styx reads."
_ABSENT: Final = Lifetime(-1.0, -1.0, -1.0)
_MARKED: Final = re.compile(r'(?:W/)?"[^"]*"')
"An entity tag (RFC 9110, section 8.8.3)."
NO_NAME: Final = "Answer 404 only when the hostname does not exist, and only with 404."


class JudgedRoute(NamedTuple):
    """A response to a lookup of a hostname that should have a route."""

    hostname: str
    findings: list[ContractFinding]
    route: RouteResponse | None
    "The part that styx uses; None = it uses none."
    etag: str | None


def judged_route(hostname: str, reply: CoreApiReply, policy: BackendPolicy) -> JudgedRoute:
    """Judge the response to the first lookup of a hostname that the platform should know."""
    found = list(_of_status(hostname, reply))
    if found:
        return JudgedRoute(hostname, found, None, None)
    route, of_body = _of_body(hostname, reply, policy)
    etag = reply.headers.get("etag")
    found = [*of_body, *_of_type(reply), *_of_lifetime(reply), *_of_etag(etag), *_of_connection(reply)]
    if route is not None:
        found.insert(0, ok("route", f"{hostname}: {described_route(route)}"))
    return JudgedRoute(hostname, found, route, etag)


def described_route(route: RouteResponse) -> str:
    """A route in a few words."""
    where = f"{route.site}/{route.environment}, generation {route.generation}"
    if route.redirect is not None:
        return f"{where}, redirects to {route.redirect}"
    count = len(route.backends)
    return f"{where}, {count} backend{'' if count == 1 else 's'}{', in maintenance' if route.maintenance else ''}"


def _of_status(hostname: str, reply: CoreApiReply) -> Iterator[ContractFinding]:
    if reply.error:
        yield fault("no_response", f"{hostname}: {reply.error}", "Clients get 503 lookup_failed until it responds.")
    elif reply.status == 404:
        yield fault(
            "known_is_404",
            f"{hostname}: 404, so for styx there is no such hostname",
            "Give a hostname that the platform serves, or respond 200 with its route.",
        )
    elif 300 <= reply.status < 400:
        yield fault(
            "status",
            f"{hostname}: status {reply.status}, and styx follows no redirects",
            "Respond 200 at this URL.",
        )
    elif reply.status in (401, 403):
        yield fault(
            "status",
            f"{hostname}: status {reply.status}",
            "Give the token with --token-file, and check its rights.",
        )
    elif reply.status != 200:
        yield fault("status", f"{hostname}: status {reply.status}", "Respond 200 with the route. " + NO_NAME)


def _of_body(
    hostname: str, reply: CoreApiReply, policy: BackendPolicy
) -> tuple[RouteResponse | None, list[ContractFinding]]:
    check, cure = "route_body", "`styx schema core-api` has the schema of a route."
    if len(reply.body) > MOST_BYTES:
        return None, [
            fault(check, f"{hostname}: more than {MOST_BYTES} bytes", "Send the backends of one hostname.")
        ]
    try:
        response = msgspec.json.decode(reply.body, type=RouteResponse)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return None, [fault(check, f"{hostname}: the body is no route: {error}", cure)]
    try:
        route, remarks = checked(response, hostname, policy)
    except InvalidResponse as error:
        cure = "styx rejects the whole response; see the contract in docs/contracts.md."
        return None, [fault(error.code, f"{hostname}: {error}", cure)]
    found = [
        warning(code, f"{hostname}: {words}", "styx takes it for active and running; use a value of the contract.")
        if code.startswith("core_api_unknown_")
        else fault(code, f"{hostname}: {words}", "styx does not use this backend; correct it, or leave it out.")
        for code, words in remarks
    ]
    if not route.backends and route.redirect is None and not route.maintenance:
        words = f"{hostname}: no backends, so clients get 503 no_backends"
        found.append(warning("no_backends", words, "Set maintenance or redirect if that is meant."))
    elif route.backends and not route.serves:
        words = f"{hostname}: all backends are draining, so clients get 503 no_backends"
        found.append(warning("no_backends", words, "Add the new backends before the old ones drain."))
    return route, found


def _of_type(reply: CoreApiReply) -> Iterator[ContractFinding]:
    kind = reply.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        words = f"Content-Type is {kind!r}" if kind else "there is no Content-Type"
        yield warning("content_type", words, "Send application/json: proxies and tools rely on it.")


def _of_lifetime(reply: CoreApiReply) -> Iterator[ContractFinding]:
    text = reply.headers.get("cache-control")
    told = "there is no Cache-Control" if text is None else f"Cache-Control is {text!r}"
    lifetime = lifetime_of(text, _ABSENT)
    example = "Send, for example, max-age=60, stale-while-revalidate=600, stale-if-error=86400."
    if lifetime.max_age < 0:
        words = f"{told}: the times in the configuration of styx apply (60 s, unless set)"
        yield warning("cache_control", words, example)
        return
    if lifetime.max_age == 0:
        words = f"{told}: each request waits for a lookup" if lifetime.stale_while_revalidate == 0 else told
        words = f"{words}, and a route is looked up again all the time"
        yield warning("cache_control", words, f"Allow some seconds; changes arrive by /v1/changes. {example}")
    if lifetime.stale_if_error == 0:
        words = f"{told}: no site is served while the core API is down"
        yield warning("stale_if_error", words, "Send stale-if-error=86400: routes that are a day old beat none.")
    elif lifetime.stale_if_error < 0:
        yield note("stale_if_error", "there is no stale-if-error: that of the configuration applies (one day)")
    if LONGEST in (lifetime.max_age, lifetime.stale_while_revalidate, lifetime.stale_if_error):
        yield note("cache_control", f"{told}: styx uses seven days at most")


def _of_etag(etag: str | None) -> Iterator[ContractFinding]:
    cure = "Send a strong ETag in double quotes, such as a digest of the body."
    if etag is None:
        yield warning("etag", "there is no ETag: each renewal sends the whole route", cure)
    elif len(etag) > LONGEST_ETAG or not etag.isascii() or not etag.isprintable():
        yield fault("etag", f"styx cannot store the ETag {etag[:40]!r} of {len(etag)} characters", cure)
    elif not _MARKED.fullmatch(etag):
        yield warning("etag", f"the ETag {etag[:40]!r} is no entity tag of HTTP", cure)


def _of_connection(reply: CoreApiReply) -> Iterator[ContractFinding]:
    if "close" in reply.headers.get("connection", "").lower():
        yield warning(
            "keep_alive",
            "the connection is closed after each response",
            "Keep it open: each lookup waits for a new one.",
        )


def judged_not_modified(first: JudgedRoute, reply: CoreApiReply, body: bytes) -> list[ContractFinding]:
    """Judge the response to the ETag that was just received, with `body`."""
    check, hostname = "not_modified", first.hostname
    cure = "Compare If-None-Match with the current ETag, and respond 304 without a body if they are equal."
    if reply.error:
        return [fault(check, f"{hostname}, asked with its ETag: {reply.error}", cure)]
    if reply.status == 304:
        lifetime = lifetime_of(reply.headers.get("cache-control"), _ABSENT)
        if lifetime.max_age < 0:
            words = "the 304 has no max-age: the times in the configuration apply"
            return [
                warning(
                    "cache_control_304", words, "Send the same Cache-Control with 200 and 304 (RFC 9110, 15.4.5)."
                )
            ]
        return [ok(check, f"{hostname}: 304 for its own ETag")]
    if reply.status != 200:
        return [fault(check, f"{hostname}, asked with its ETag: status {reply.status}", cure)]
    if reply.body == body and reply.headers.get("etag") != first.etag:
        return [
            fault(
                "etag_unstable", f"{hostname}: the same body has another ETag each time", "Derive it from the body."
            )
        ]
    if reply.body == body:
        return [fault(check, f"{hostname}: 200 with the whole route for its own ETag", cure)]
    return [note(check, f"{hostname}: the route changed between two lookups, so 304 was not seen")]


def judged_other_etag(hostname: str, reply: CoreApiReply) -> list[ContractFinding]:
    """Judge the response to an ETag that the core API has never sent."""
    if reply.status == 304:
        words = f"{hostname}: 304 for an ETag that was never sent, so styx would never see a change"
        return [fault("always_304", words, "Compare If-None-Match with the current ETag.")]
    if reply.error or reply.status != 200:
        words = f"{hostname}, asked with an unknown ETag: {reply.error or f'status {reply.status}'}"
        return [fault("other_etag", words, "Respond 200 with the route.")]
    return []


def judged_repeat(first: JudgedRoute, second: JudgedRoute) -> list[ContractFinding]:
    """Judge two lookups of one hostname, one after the other."""
    before, after = first.route, second.route
    if before is None or after is None:
        return []
    if after.generation < before.generation:
        words = f"{first.hostname}: generation {before.generation}, then {after.generation}"
        cure = "It must grow with each change: styx does not believe a lower one for a minute."
        return [fault("generation", words, cure)]
    same = msgspec.structs.replace(after, generation=before.generation) == before
    if same and after.generation > before.generation:
        words = (
            f"{first.hostname}: generation {before.generation}, then {after.generation}, and nothing has changed"
        )
        cure = "Let it grow with changes only; styx cannot tell an old response from a new one otherwise."
        return [warning("generation", words, cure)]
    return []


def judged_siblings(judged: Iterable[JudgedRoute]) -> list[ContractFinding]:
    """Judge the routes of hostnames that belong to one environment."""
    routes = [(each.hostname, each.route) for each in judged if each.route is not None]
    found = []
    for (name, one), (other_name, other) in combinations(routes, 2):
        if one.environment_key != other.environment_key:
            continue
        if one.generation == other.generation and set(one.backends) != set(other.backends):
            words = f"{name} and {other_name} are both {one.environment_key} and have different backends"
            cure = "Send the same backends with the same generation: an environment is what shares backends."
            found.append(fault("siblings", words, cure))
    return found


def judged_unknown(hostname: str, reply: CoreApiReply) -> list[ContractFinding]:
    """Judge the response to a hostname that does not exist."""
    check = "unknown_host"
    if reply.error:
        return [fault(check, f"{hostname}, which does not exist: {reply.error}", NO_NAME)]
    if reply.status == 200:
        words = f"{hostname}, which does not exist, has a route"
        cure = "Respond 404. If it is a wildcard for all names, each made-up hostname takes a place in the cache."
        return [fault(check, words, cure)]
    if reply.status != 404:
        words = f"{hostname}, which does not exist: status {reply.status}, so clients get 503 and not 404"
        return [fault(check, words, NO_NAME)]
    lifetime = lifetime_of(reply.headers.get("cache-control"), _ABSENT)
    found = [ok(check, f"{hostname}: 404")]
    if lifetime.max_age < 0:
        words = "a 404 has no max-age: that of the configuration applies (10 s)"
        found.append(warning("unknown_host_max_age", words, "Send Cache-Control: max-age=10."))
    elif lifetime.max_age > LONGEST_UNKNOWN / 10:
        words = f"a 404 has max-age={lifetime.max_age:.0f}: a new site is not found for so long (one hour at most)"
        found.append(warning("unknown_host_max_age", words, "Send Cache-Control: max-age=10."))
    return found


def judged_odd_name(hostname: str, why: str, reply: CoreApiReply) -> list[ContractFinding]:
    """Judge the response to a hostname that clients can make up, and that no site has. `why`: what is odd."""
    if reply.error or reply.status >= 500 or reply.status == 429:
        words = f"{why}, {hostname[:80]!r}: {reply.error or f'status {reply.status}'}"
        cure = "Respond 404 (or 400): styx takes this for a failure of the service, and clients choose such names."
        return [fault("odd_hostname", words, cure)]
    if reply.status not in (400, 404):
        words = f"{why}, {hostname[:80]!r}: status {reply.status}"
        return [warning("odd_hostname", words, "Respond 404 (or 400).")]
    return []


def judged_times(seconds: Sequence[float], timeout: float) -> list[ContractFinding]:
    """Judge how long single lookups took; `timeout` is that of styx."""
    slowest = max(seconds, default=0.0)
    if slowest > SLOW:
        cure = f"The first visitor of a site waits for it; after {timeout:g} s styx counts a lookup as failed."
        return [warning("latency", f"the slowest of {len(seconds)} single lookups took {slowest:.2f} s", cure)]
    return [ok("latency", f"the slowest of {len(seconds)} single lookups took {1000 * slowest:.0f} ms")]


def judged_burst(replies: Sequence[CoreApiReply], timeout: float) -> list[ContractFinding]:
    """Judge lookups that were sent all at once, as many as styx sends after a start with an empty cache."""
    check, count = "burst", len(replies)
    failed = [reply for reply in replies if reply.error or reply.status not in (200, 304)]
    if failed:
        first = failed[0].error or f"status {failed[0].status}"
        cure = "An edge with an empty cache asks like this. Lower core_api.concurrency, or make room for it."
        return [fault(check, f"of {count} lookups at once {len(failed)} failed, the first with: {first}", cure)]
    slowest = max((reply.seconds for reply in replies), default=0.0)
    if slowest > timeout / 2:
        cure = f"After {timeout:g} s styx counts a lookup as failed. Lower core_api.concurrency, or make it faster."
        return [warning(check, f"the slowest of {count} lookups at once took {slowest:.2f} s", cure)]
    return [ok(check, f"the slowest of {count} lookups at once took {1000 * slowest:.0f} ms")]


def judged_without_token(reply: CoreApiReply) -> list[ContractFinding]:
    """Judge the response to a lookup without the token, where there is one."""
    if reply.status in (401, 403) or reply.error:
        return [ok("token", "without the token there is no route")]
    cure = "Require it: who can ask learns where all containers are."
    return [warning("token", f"without the token there is a response, too: status {reply.status}", cure)]
