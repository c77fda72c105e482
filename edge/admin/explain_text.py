"""Formats the output of `styx explain HOST` and `styx routes`: the state of a route, the weight of its backends.

live-acme.example.org  ·  acme/live  ·  generation 1842
fresh: confirmed 12 s ago, fresh for another 48 s, usable for 23 h 59 min without the core API
from the core API; to be looked up again in 42 s, if it is in use

backend  server   address          role    state    weight  chance  in flight  typical  errors
b7c1     srv-192  10.4.7.12:26607  active  running   0.100   9.1 %          2   140 ms   0.4 %
    2.30 demerits: slower than its neighbours, earned 4 s ago
    on probation for 7.2 s (slow): copies of requests probe it, next one in 1.1 s
"""

import time
from collections.abc import Sequence

import msgspec

from edge.admin.admin_messages import Explanation, OperatorDrain, RouteSourceState, WorkerReply
from edge.rules.acme.explain_issuance import REASONS
from edge.rules.acme.issuance_records import ExplainedIssuance
from edge.rules.explain_records import (
    ExplainedBackend,
    ExplainedCertificate,
    ExplainedDemerit,
    ExplainedDrain,
    ExplainedRejection,
    ExplainedRoute,
    FailedAttempts,
    ListedRoute,
)
from edge.rules.routing.routes import ANOTHER_PROCESS
from edge.rules.settings.values import THE_CORE_API, source_label

HEADINGS = (
    "backend",
    "server",
    "address",
    "role",
    "state",
    "weight",
    "chance",
    "in flight",
    "typical",
    "errors",
)
NUMBERS_FROM = HEADINGS.index("weight")
"Columns from this one on are numbers and aligned to the right."
GAP = "  "
CORE_API = RouteSourceState("core API")
FAILURES = {
    "refused": "refused (full)",
    "connect_failed": "failed to connect",
    "connect_timeout": "failed to connect in time",
    "host_unreachable": "unreachable",
    "wrong_backend": "somebody else is there (TLS)",
    "certificate_refused": "refused the certificate of the edge",
    "misdirected": "misdirected (421: not responsible for the hostname)",
}
"Words for failed attempts; the others are named by their cause."
FULL_WITHIN = 10.0
"Seconds for which a backend counts as full after a refusal, in words."
UNREACHABLE = frozenset({"connect_failed", "connect_timeout", "host_unreachable"})
MOST_NAMES = 5
"Names of a certificate that are listed."
UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def render_explanation(explanation: Explanation) -> str:
    """Format the explanations of all workers, as text that ends with a newline."""
    said: dict[str, list[WorkerReply]] = {}
    for reply in explanation.workers:
        said.setdefault(_said(reply, explanation.source), []).append(reply)
    parts = [_source_problem(explanation.source)]
    parts += [(_heading(replies) if len(explanation.workers) > 1 else "") + text for text, replies in said.items()]
    if explanation.issuance is not None:
        parts.append(f"{issuance_line(explanation.issuance, time.time())}\n")
    if explanation.similar:
        parts.append(f"known hostnames like it: {', '.join(explanation.similar)}\n")
    if explanation.silent:
        parts.append(f"no reply from workers {', '.join(map(str, explanation.silent))}\n")
    return "\n".join(filter(None, parts))


def _said(reply: WorkerReply, source: RouteSourceState) -> str:
    if reply.error:
        return f"it could not reply: {reply.error}\n"
    explained = msgspec.json.decode(reply.content, type=ExplainedRoute | None)
    return "it knows nothing about this hostname\n" if explained is None else render(explained, source)


def _heading(replies: Sequence[WorkerReply]) -> str:
    """A heading that names the workers which report the same."""
    if len(replies) == 1:
        return f"worker {replies[0].worker}, process {replies[0].pid}:\n"
    return f"workers {', '.join(str(reply.worker) for reply in replies)}, each:\n"


def render(explained: ExplainedRoute, source: RouteSourceState = CORE_API) -> str:
    """Format the explanation of one worker, as text that ends with a newline."""
    lines = _header(explained, _name_of(source))
    if explained.backends:
        lines += ["", *_table(explained.backends)]
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """Format seconds in at most two units: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d`."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}".removesuffix(".0") + " s"
    rest = round(seconds)
    words: list[str] = []
    for size, unit in UNITS:
        count, rest = divmod(rest, int(size))
        if count:
            words.append(f"{count} {unit}")
        elif words:
            break
    return " ".join(words[:2])


def _header(explained: ExplainedRoute, source: str) -> list[str]:
    names = [explained.hostname]
    if explained.site:
        names += [f"{explained.site}/{explained.environment}", f"generation {explained.generation}"]
    lines = ["  ·  ".join(names), _freshness(explained, source)]
    if explained.known:
        lines.append(_source(explained))
    lines += _lookup(explained, source)
    if explained.rejection is not None:
        lines.append(_rejection(explained, explained.rejection))
    lines += [f"wrong in the response of {source}: {remark}" for remark in explained.remarks]
    if explained.certificate is not None:
        lines += _certificate(explained.certificate)
    return lines + _local_replies(explained, source)


def _certificate(certificate: ExplainedCertificate) -> list[str]:
    """The certificate that its clients get."""
    if not certificate.names:
        return [f"no certificate from {certificate.source}: {certificate.last_error}"]
    listed = ", ".join(certificate.names[:MOST_NAMES])
    more = len(certificate.names) - MOST_NAMES
    left = certificate.days_left or 0.0
    days = f"{left:.0f} days left" if left >= 2 else duration(left * 86_400.0) + " left" if left > 0 else "ended"
    lines = [f"certificate of {listed}" + (f" and {more} more" if more > 0 else "")]
    state = "" if certificate.state == "ended" else f", {certificate.state}"
    lines.append(f"    {days}{state}; from {certificate.source}; issued by {certificate.issuer}")
    if certificate.last_error is not None:
        lines.append(f"    the last lookup for it failed: {certificate.last_error}")
    return lines


def issuance_line(issuance: ExplainedIssuance, wall: float) -> str:
    """The orders of its certificate at `wall`, seconds since the epoch."""
    at = issuance.next_at
    due = "at once" if at is None or at <= wall else f"in {duration(at - wall)}"
    why = REASONS.get(issuance.reason, issuance.reason) + (f" ({issuance.details})" if issuance.details else "")
    failed = f", {issuance.failures} times in a row" if issuance.failures > 1 else ""
    again = f"{why}{failed}; " + ("not tried again until it is wanted" if at is None else f"tried again {due}")
    match issuance.state:
        case "issued":
            last = f"; last order: {again}" if issuance.reason else ""
            return f"certificate ordered by styx: renewed {due}{last}"
        case "ordering":
            return "certificate ordered by styx: an order is under way"
        case "wanted":
            return f"certificate ordered by styx: {due}"
        case "failed":
            return f"order failed: {again}"
        case "waiting" | "unknown_host":
            return f"certificate not ordered yet: {again}"
        case _:
            return "certificate not ordered: no handshake has asked for it within a day"


def _local_replies(explained: ExplainedRoute, source: str) -> list[str]:
    """The local replies that requests get, instead of a backend's response."""
    if not explained.known:
        return []
    if explained.maintenance:
        return ["maintenance: requests are answered 503"]
    if explained.redirect:
        return [f"redirect: requests are sent to {explained.redirect}"]
    if explained.drained:
        return ["every backend is drained by an operator: requests are answered 503, `drained`"]
    if not explained.backends:
        return [f"no backends, says {source}: requests are answered 503, `no_backends`"]
    in_use = [backend for backend in explained.backends if backend.probability > 0.0]
    if in_use and all(map(_has_just_refused, in_use)):
        return [
            f"every backend in use refused (full) within the last {FULL_WITHIN:.0f} s: requests that none takes "
            "are answered 503, `all_refused`"
        ]
    if in_use and all(map(_has_just_been_unreachable, in_use)):
        return [
            f"no backend in use could be connected to at its last attempt, less than {FULL_WITHIN:.0f} s ago: "
            "requests that reach none are answered 502 or 504"
        ]
    if all(backend.condition == "draining" for backend in explained.backends):
        return [f"every backend is draining, says {source}: requests are answered 503, `no_backends`"]
    return []


def _has_just_refused(backend: ExplainedBackend) -> bool:
    return any(each.cause == "refused" and each.age < FULL_WITHIN for each in backend.failures)


def _has_just_been_unreachable(backend: ExplainedBackend) -> bool:
    latest = backend.failures[0] if backend.failures else None
    return latest is not None and latest.cause in UNREACHABLE and latest.age < FULL_WITHIN


def _source(explained: ExplainedRoute) -> str:
    if explained.source not in (THE_CORE_API, ANOTHER_PROCESS):
        return f"from {explained.source}; a change of it is taken over by itself"
    when = f"in {duration(explained.next_lookup)}" if explained.next_lookup else "at the next request"
    return f"from {explained.source}; to be looked up again {when}, if it is in use"


def _lookup(explained: ExplainedRoute, source: str) -> list[str]:
    """How its lookups fare."""
    lines, failed = [], explained.failed_lookup
    if explained.looking_up:
        lines.append(f"it is being looked up at {source} now")
    if failed is not None:
        again = f"not for another {duration(failed.again_in)}" if failed.again_in else "at the next request"
        lines.append(f"the lookup failed {duration(failed.age)} ago: {failed.error}; tried again {again}")
    if explained.circuit_open:
        lines.append(f"{source} fails: lookups are stopped, but for one now and then (circuit breaker open)")
    return lines


def _rejection(explained: ExplainedRoute, rejection: ExplainedRejection) -> str:
    if rejection.generation is None:
        what = "that there is no such hostname"
    elif rejection.reason == "lower_generation":
        what = f"generation {rejection.generation}, lower than {explained.generation}"
    else:
        what = f"generation {rejection.generation}, without backends"
    held = " (as for many environments at once)" if rejection.reason == "removal_held_back" else ""
    return (
        f"a response was not accepted: {what}{held}; so for {duration(rejection.since)}, last "
        f"{duration(rejection.age)} ago; accepted if it is repeated after another "
        f"{duration(rejection.accepted_in)}, or now with: styx invalidate hostname {explained.hostname}"
    )


def _name_of(source: RouteSourceState) -> str:
    return source_label(source.kind)


def _source_problem(source: RouteSourceState) -> str:
    """The problem with the source of routes, for all hostnames or for this one."""
    lines = []
    if source.problem:
        lines.append(f"the file of routes cannot be used: {source.problem}; the routes of before are served")
    if source.missing_for is not None:
        lines.append(
            f"this hostname has been missing from the file of routes, or without backends in it, for "
            f"{duration(source.missing_for)}: held back (routes.removal_hold); styx reload takes the file over now"
        )
    elif source.held_back:
        lines.append(f"the file of routes is held back: {source.held_back} hostnames are missing from it")
    return "".join(f"{line}\n" for line in lines)


def _freshness(explained: ExplainedRoute, source: str) -> str:
    if explained.freshness == "none":
        if explained.failed_lookup is None and not explained.looking_up:
            return "no route yet: it is looked up at the first request"
        answer = "wait for the lookup" if explained.looking_up else "are answered 503, `lookup_failed`"
        return f"no route: requests {answer}"
    if not explained.known:
        asked = f"asked {duration(explained.age)} ago"
        return f"unknown host: {source} has no such hostname ({asked}); requests are answered 404"
    confirmed = f"confirmed {duration(explained.age)} ago"
    usable = f"usable for {duration(explained.usable_for)} without {source}"
    match explained.freshness:
        case "fresh":
            return f"fresh: {confirmed}, fresh for another {duration(explained.fresh_for)}, {usable}"
        case "stale":
            return f"stale: {confirmed}, served while it is looked up again, {usable}"
        case "expired":
            return f"expired: {confirmed}, looked up again before the next request is served, {usable}"
        case other:
            return f"{other}: {confirmed}, too old to be served; {source} is asked first"


def render_drains(drains: Sequence[OperatorDrain]) -> str:
    """Format the list of `styx drains`, as text that ends with a newline."""
    rows = [
        (
            drain.kind,
            drain.name,
            drain.by or "unknown",
            f"{time.strftime('%H:%M:%S', time.localtime(drain.until))} (in {duration(drain.seconds)})",
        )
        for drain in sorted(drains, key=lambda drain: drain.seconds)
    ]
    return _columns(("kind", "name", "by", "until"), rows) if rows else "nothing is drained\n"


def render_routes(routes: Sequence[ListedRoute]) -> str:
    """Format the list of `styx routes`, as text that ends with a newline."""
    headings = ("hostname", "environment", "backends", "state", "confirmed", "looked up", "last error")
    rows = [
        (
            route.hostname,
            f"{route.site}/{route.environment}",
            str(route.backends),
            route.freshness,
            f"{duration(route.age)} ago",
            f"in {duration(route.next_lookup)}" if route.next_lookup else "when used",
            route.last_error or "",
        )
        for route in routes
    ]
    return _columns(headings, rows)


def _columns(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [
        GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (headings, *rows)
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _table(backends: Sequence[ExplainedBackend]) -> list[str]:
    rows = [_cells(backend) for backend in backends]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *rows, strict=True)]
    lines = [_aligned(HEADINGS, widths)]
    for backend, row in zip(backends, rows, strict=True):
        lines.append(_aligned(row, widths))
        lines += _reasons(backend)
    return lines


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell.ljust(width) if column < NUMBERS_FROM else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return GAP.join(padded).rstrip()


def _cells(backend: ExplainedBackend) -> tuple[str, ...]:
    return (
        backend.id,
        backend.server,
        backend.address,
        backend.role,
        backend.condition if backend.condition == "drained" else backend.state,
        f"{backend.weight:.3f}",
        f"{backend.probability:.1%}".replace("%", " %"),
        str(backend.in_flight),
        _milliseconds(backend.typical_ms),
        f"{backend.error_ratio:.1%}".replace("%", " %"),
    )


def _milliseconds(ms: float | None) -> str:
    if ms is None:
        return "-"
    return f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"


def _reasons(backend: ExplainedBackend) -> list[str]:
    """The reasons why a backend gets less than its share, one line each, below its row."""
    lines = [f"    {_demerit(demerit)}" for demerit in backend.demerits]
    lines += [f"    {condition}" for condition in [_condition(backend)] if condition]
    lines += [f"    {_drain(drain)}" for drain in backend.drains]
    lines += [f"    {_failed_attempts(failed)}" for failed in backend.failures]
    if backend.rests_for > 0:
        lines.append(f"    rests: not asked for another {duration(backend.rests_for)}")
    return lines


def _condition(backend: ExplainedBackend) -> str:
    since = "" if backend.condition_for is None else f" for {duration(backend.condition_for)}"
    again = "next one when asked" if backend.next_probe is None else f"next one in {duration(backend.next_probe)}"
    match backend.condition:
        case "probation":
            return f"on probation{since} ({backend.on_probation_for}): copies of requests probe it, {again}"
        case "down":
            again = "from the next request on" if backend.next_probe is None else again
            return f"down{since}: connected to in the background, {again}"
        case "cold":
            return f"cold: silent{since or ' so far'}, its first response may take long; awake backends go first"
        case "silent":
            return f"silent{since} with requests in flight: a tenth of its share"
        case "recovering":
            return f"recovering{since}: its share grows to the whole"
        case _:
            return ""


def _drain(drain: ExplainedDrain) -> str:
    by = f" by {drain.by}" if drain.by else ""
    end = f"styx drain {drain.kind} {drain.name} --end"
    return f"drained{by} for another {duration(drain.ends_in)}; to end it now: {end}"


def _failed_attempts(failed: FailedAttempts) -> str:
    what = FAILURES.get(failed.cause, failed.cause.replace("_", " "))
    times = "once" if failed.count == 1 else f"{failed.count} times"
    return f"{what} {times}, last {duration(failed.age)} ago"


def _demerit(demerit: ExplainedDemerit) -> str:
    earned = "" if demerit.age is None else f", earned {duration(demerit.age)} ago"
    return f"{demerit.points:.2f} demerits: {demerit.cause}{earned}"
