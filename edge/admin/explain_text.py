"""Formats the output of `styx explain HOST` and `styx routes`: the state of a route, the weight of its backends.

live-acme.example.org  ·  acme/live  ·  generation 1842
fresh: confirmed 12 s ago, fresh for another 48 s, usable for 23 h 59 min without the core API
told by the core API; to be asked for again in 42 s, if it is in use

backend  server   address          role    state    weight  chance  in flight  typical  errors
b7c1     srv-192  10.4.7.12:26607  active  running   0.100   9.1 %          2   140 ms   0.4 %
    2.30 demerits: slower than its neighbours, earned 4 s ago
    on probation for 7.2 s (slow): copies of requests probe it, next one in 1.1 s
"""

from collections.abc import Sequence

from edge.rules.explain_records import ExplainedBackend, ExplainedDemerit, ExplainedRoute, ListedRoute
from edge.rules.routing.routes import Source

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
UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"))


def render(explained: ExplainedRoute) -> str:
    """Format an explanation, as text that ends with a newline."""
    lines = _header(explained)
    if explained.backends:
        lines += ["", *_table(explained.backends)]
    elif explained.known:
        lines.append("no backends: requests are answered 503")
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


def _header(explained: ExplainedRoute) -> list[str]:
    names = [explained.hostname]
    if explained.site:
        names += [f"{explained.site}/{explained.environment}", f"generation {explained.generation}"]
    lines = ["  ·  ".join(names), _freshness(explained)]
    if explained.known:
        lines.append(_source(explained))
    if explained.last_error:
        lines.append(f"last error of {_source_of_routes(explained)}: {explained.last_error}")
    if explained.maintenance:
        lines.append("maintenance: requests are answered 503")
    if explained.redirect:
        lines.append(f"redirect: requests are sent to {explained.redirect}")
    return lines


def _source(explained: ExplainedRoute) -> str:
    when = f"in {duration(explained.next_lookup)}" if explained.next_lookup else "at the next request"
    return f"told by {explained.source}; to be asked for again {when}, if it is in use"


def _source_of_routes(explained: ExplainedRoute) -> str:
    return Source.FILE.value if explained.source == Source.FILE.value else Source.CORE_API.value


def _freshness(explained: ExplainedRoute) -> str:
    source = _source_of_routes(explained)
    if not explained.known:
        return f"unknown host: {source} said so {duration(explained.age)} ago; requests are answered 404"
    confirmed = f"confirmed {duration(explained.age)} ago"
    usable = f"usable for {duration(explained.usable_for)} without {source}"
    match explained.freshness:
        case "fresh":
            return f"fresh: {confirmed}, fresh for another {duration(explained.fresh_for)}, {usable}"
        case "stale":
            return f"stale: {confirmed}, served while it is asked for again, {usable}"
        case "expired":
            return f"expired: {confirmed}, asked for again before the next request is served, {usable}"
        case other:
            return f"{other}: {confirmed}, too old to be served; {source} is asked first"


def render_routes(routes: Sequence[ListedRoute]) -> str:
    """Format the list of `styx routes`, as text that ends with a newline."""
    headings = ("hostname", "environment", "backends", "state", "confirmed", "asked again", "last error")
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
        backend.state,
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


def _demerit(demerit: ExplainedDemerit) -> str:
    earned = "" if demerit.age is None else f", earned {duration(demerit.age)} ago"
    return f"{demerit.points:.2f} demerits: {demerit.cause}{earned}"
