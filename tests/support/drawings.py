"""The parts of docs/ that are made from the code: drawings in Mermaid, and tables.

    <!-- made from the code: conditions -->
    ...
    <!-- end -->

    python -m tests.support.drawings        writes them anew

`tests/test_docs.py` fails when one of them is out of date.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from edge import BUILD
from edge.admin import admin_server
from edge.rules.balancing.backend_state import GOOD_IN_A_ROW, SLOW_START
from edge.rules.balancing.demerits import CONNECTS_IN_A_ROW, FAILURES_IN_A_ROW, SLOW_IN_A_ROW, Demerits
from edge.rules.balancing.environments import Environment
from edge.rules.balancing.picker import bias_table
from edge.rules.balancing.retries import RetryBudget
from edge.rules.exchange_records import LOG_CONSTANTS, Attempted, DetailedAttempt, DetailedOutcome, Outcome
from edge.rules.explain import explain
from edge.rules.outcomes import NEXT_PHASES, VERDICTS, Cause, Charge, Retry
from edge.rules.pages.page_template import NAMES
from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.settings import DemeritSettings, RetrySettings
from tests.support.bound_route import bound
from tests.support.request_walk import request_walk

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PART = re.compile(r"(<!-- made from the code: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


# Conditions of a backend: each event is played to the decisions of production in each condition.


class Played:
    """One environment of four backends that have all answered well; the first one is looked at."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.settings = DemeritSettings()
        self.demerits = Demerits(self.settings)
        environment = Environment("acme", "live", demerits=self.demerits, budget=RetryBudget(RetrySettings(), 0.0))
        backends = [Backend(f"b{n}", f"10.0.0.{n + 1}", 8000) for n in range(4)]
        self.route = bound(RouteResponse("shop.test", "acme", "live", 1, tuple(backends)), environment)
        self.one, *self.others = self.route.states
        self.siblings_answer(times=20)
        self.answers(times=20)

    @property
    def condition(self) -> str:
        """As `styx explain` shows it."""
        explained = explain("shop.test", self.route, bias_table(self.settings.active_request_bias), self.now)
        (found,) = (backend.condition for backend in explained.backends if backend.id == "b0")
        return found

    def siblings_answer(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 0.1
            for sibling in self.others:
                self.demerits.record_response(sibling, 0.05, self.now)
        self.condition  # noqa: B018 - weighs

    def answers(self, latency: float = 0.05, times: int = 1) -> None:
        for _ in range(times):
            self.now += 0.1
            if self.one.cold:
                self.demerits.record_wake(self.one, self.now)
            else:
                self.demerits.record_response(self.one, latency, self.now)
            self.siblings_answer()


def _fails(played: Played) -> None:
    played.demerits.record_failure(played.one, Cause.GATEWAY_ERROR, played.now)


def _is_slow(played: Played) -> None:
    played.answers(latency=5.0)


def _refuses_connect(played: Played) -> None:
    played.demerits.record_unreachable(played.one, Cause.CONNECT_FAILED, played.now, 0.5)


def _connect_times_out(played: Played) -> None:
    played.demerits.record_unreachable(played.one, Cause.CONNECT_TIMEOUT, played.now, 0.5)


def _can_be_connected_to(played: Played) -> None:
    if played.one.down_since:
        played.demerits.record_connected(played.one, played.now, 0.5)


def _sends_nothing(played: Played) -> None:
    played.one.waiting, played.one.waiting_since = 1, played.now
    played.siblings_answer(times=20)


def _is_idle(played: Played) -> None:
    played.now += played.settings.idle_after + 1.0
    played.siblings_answer()


def _slow_start_ends(played: Played) -> None:
    played.now += SLOW_START + 0.1
    played.siblings_answer()


def _answers_well(played: Played) -> None:
    played.one.waiting = 0
    played.answers()


def _refuses(played: Played) -> None:
    played.demerits.record_refusal(played.one, 0.0, played.now)


Step = Callable[[Played], None]

EVENTS: Sequence[tuple[Step, int, str]] = (
    (_answers_well, 1, "a response"),
    (_answers_well, GOOD_IN_A_ROW, f"{GOOD_IN_A_ROW} good responses in a row"),
    (_fails, 1, "a failed response"),
    (_fails, FAILURES_IN_A_ROW, f"{FAILURES_IN_A_ROW} failed responses in a row"),
    (_is_slow, SLOW_IN_A_ROW, f"{SLOW_IN_A_ROW} responses far slower than its siblings'"),
    (_refuses, 1, "a refusal"),
    (_refuses_connect, CONNECTS_IN_A_ROW, f"{CONNECTS_IN_A_ROW} connects refused in a row"),
    (_connect_times_out, 1, "a connect timed out"),
    (_can_be_connected_to, 1, "a connect check succeeds"),
    (_sends_nothing, 1, "silent with a request in flight"),
    (_is_idle, 1, "idle for demerits.idle_after"),
    (_slow_start_ends, 1, f"{SLOW_START:.0f} s have passed"),
)
"What happens, how often, and its name."

WAYS: Sequence[tuple[tuple[Step, int], ...]] = (
    (),
    ((_is_idle, 1),),
    ((_sends_nothing, 1),),
    ((_fails, FAILURES_IN_A_ROW),),
    ((_fails, FAILURES_IN_A_ROW), (_answers_well, GOOD_IN_A_ROW)),
    ((_connect_times_out, 1),),
)
"How a backend gets into each of its conditions."


def _after(way: Sequence[tuple[Step, int]]) -> Played:
    played = Played()
    for step, times in way:
        for _ in range(times):
            step(played)
    return played


def moves() -> Iterator[tuple[str, str, str]]:
    """From which condition to which other one, and by which event. An event of several steps counts if it is the
    last of them that changes the condition."""
    for way in WAYS:
        for step, times, name in EVENTS:
            played = _after(way)
            before = played.condition
            for _ in range(times - 1):
                step(played)
            if played.condition != before:
                continue
            step(played)
            played.siblings_answer(times=2)
            if played.condition != before:
                yield before, played.condition, name


def conditions() -> Iterator[str]:
    """The conditions of a backend, and what leads from one to another."""
    found: dict[tuple[str, str], list[str]] = {}
    for before, after, event in moves():
        found.setdefault((before, after), []).append(event)
    yield from ("```mermaid", "stateDiagram-v2")
    yield f"    [*] --> {Played().condition}"
    yield from (f"    {before} --> {after}: {', or '.join(events)}" for (before, after), events in found.items())
    yield "```"


# Phases of a request


def phases() -> Iterator[str]:
    """The phases of an exchange, and which may follow which."""
    yield from ("```mermaid", "stateDiagram-v2", "    direction LR")
    yield f"    [*] --> {next(iter(NEXT_PHASES)).name}"
    yield from (
        f"    {phase.name} --> {after.name}"
        for phase, then in NEXT_PHASES.items()
        for after in sorted(then, key=list(NEXT_PHASES).index)
    )
    yield "```"


# The walk of a request


def walk() -> Iterator[str]:
    """The functions that a cached request goes through, by file."""
    found = request_walk()
    yield f"{len(found.calls)} calls, {len(found.files)} files, {found.returns} returns to a file that was left:"
    yield from ("", "```", *found.lines(), "```")


# Tables


def causes() -> Iterator[str]:
    """Every way in which an attempt or an exchange can end."""
    rungs = {Retry.ANY: "A", Retry.UNPROCESSED: "B", Retry.SAFE_ONLY: "C", Retry.NEVER: "D"}
    costs = {
        Charge.NOTHING: "",
        Charge.ERROR: "an error",
        Charge.UNREACHABLE: "a failed connect",
        Charge.REST: "a pause, if it asked for one",
    }
    yield "| cause | blame | status | `X-Styx-Error` | rung | costs the backend |"
    yield "|---|---|---|---|---|---|"
    for cause, verdict in VERDICTS.items():
        reason = f"`{verdict.reason}`" if verdict.reason else ""
        status = str(verdict.status) if verdict.status else "as received"
        row = (f"`{cause.value}`", verdict.blame.name.lower(), status, reason, rungs[verdict.retry])
        yield f"| {' | '.join((*row, costs[verdict.charge]))} |".replace("|  |", "| |").replace("|  |", "| |")


def log_fields() -> Iterator[str]:
    """The fields of the access log: the usual ones, and those that `access_log.fields` must ask for."""
    yield "| field | usual | |"
    yield "|---|---|---|"
    for usual, record, attempt in (("yes", Outcome, Attempted), ("", DetailedOutcome, DetailedAttempt)):
        yield from (f"| `{name}` | {usual} | {text} |" for name, text in _fields(record))
        yield from (f"| `attempts[].{name}` | {usual} | {text} |" for name, text in _fields(attempt))
    yield from (f"| `{name}` | yes | {text} |" for name, text in LOG_CONSTANTS.items())


def _fields(record: type) -> Iterator[tuple[str, str]]:
    """Name and description of each field: the text under it."""
    (tree,) = ast.parse(inspect.getsource(record)).body
    assert isinstance(tree, ast.ClassDef)
    named = [(n, node.target.id) for n, node in enumerate(tree.body) if _is_field(node)]
    for n, name in named:
        below = tree.body[n + 1] if n + 1 < len(tree.body) else None
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        yield name, " ".join(str(below.value.value).split()).replace("|", "\\|") if is_text else ""


def _is_field(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)


def admin_api() -> Iterator[str]:
    """The addresses of the admin server."""
    yield "| address | |"
    yield "|---|---|"
    yield from (f"| `{path}` | {text} |" for path, text in admin_server.ADDRESSES)


def page_names() -> Iterator[str]:
    """What can be put into an error page."""
    yield "| name | |"
    yield "|---|---|"
    yield from (f"| `${name}` | {text} |" for name, text in NAMES.items())


FROM_PLAIN_PYTHON = frozenset({"walk"})
"What cannot be made by a compiled styx, and is left as it is."
MADE: Mapping[str, Callable[[], Iterable[str]]] = {
    "walk": walk,
    "phases": phases,
    "conditions": conditions,
    "causes": causes,
    "log_fields": log_fields,
    "admin_api": admin_api,
    "page_names": page_names,
}


def renewed(text: str) -> str:
    """This page, with what is made from the code made anew."""

    def made(part: re.Match[str]) -> str:
        if part[2] in FROM_PLAIN_PYTHON and BUILD == "compiled":
            return part[0]
        return part[1] + "".join(f"{line}\n" for line in MADE[part[2]]()) + part[3]

    return PART.sub(made, text)


def pages() -> list[Path]:
    """All pages of the documentation."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(renewed(page.read_text()))
