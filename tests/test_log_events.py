"""Each event that styx logs has a row in `edge/rules/log_events.py`, with its level and its fields."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge.rules.log_events import EVENTS, render
from edge.rules.routing.route_table import Rejection

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "log_events.md"
LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
NOT_FIELDS = {"code", "exc_info"}
ROWS = {event.code: event for event in EVENTS}

CORE_API_CODES = {code for code in ROWS if code.startswith("core_api_") and ROWS[code].fields[:1] == ("hostname",)}
VARIABLE = {
    "route lookup problem": CORE_API_CODES | {rejection.value for rejection in Rejection},
    "saved route not used": CORE_API_CODES - {"core_api_failed"},
    "routes file not used": {"routes_file_unreadable", "routes_file_not_used"},
}
"Messages of the calls whose code depends on what is wrong, and the codes that it may be."


class Logged(NamedTuple):
    """One call of a logger."""

    where: str
    level: str
    message: str
    codes: set[str]
    fields: set[str]
    is_closed: bool
    "Its fields are all in sight: nothing is unpacked there."


def literal(node: ast.expr) -> str:
    assert isinstance(node, ast.Constant), ast.unparse(node)
    assert isinstance(node.value, str)
    return node.value


def parts(call: ast.Call) -> Iterator[tuple[str | None, ast.expr]]:
    """Fields of a call of structlog, or of `extra` of one of the standard library; None = unpacked."""
    for keyword in call.keywords:
        if keyword.arg == "extra":
            assert isinstance(keyword.value, ast.Dict), ast.unparse(call)
            for key, value in zip(keyword.value.keys, keyword.value.values, strict=True):
                yield (None if key is None else literal(key)), value
        else:
            yield keyword.arg, keyword.value


def logged(path: Path) -> Iterator[Logged]:
    text = path.read_text()
    if not re.search(r"^log = ", text, re.MULTILINE):
        return
    tree = ast.parse(text)
    called = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "log"):
            continue
        where = f"{path.relative_to(ROOT)}:{node.lineno}"
        assert node.attr in LEVELS, f"{where}: {node.attr}"
        assert id(node) in called, f"{where}: call it where it stands, so that it can be checked"
        call = called[id(node)]
        assert len(call.args) == 1, f"{where}: data belongs into fields"
        message, fields = literal(call.args[0]), dict(parts(call))
        assert "code" in fields, f"{where}: an event without a code"
        codes = VARIABLE[message] if message in VARIABLE else {literal(fields["code"])}
        names = {name for name in fields if name is not None}
        yield Logged(where, LEVELS[node.attr], message, codes, names - NOT_FIELDS, None not in fields)


CALLS = [call for path in sorted((ROOT / "edge").rglob("*.py")) for call in logged(path)]


def test_every_event_has_a_row_with_its_level_and_its_fields() -> None:
    assert len(CALLS) > 90
    for call in CALLS:
        for code in call.codes:
            assert code in ROWS, f"{call.where}: {code}"
            assert call.level in ROWS[code].level.split(", "), call.where
            assert call.fields <= set(ROWS[code].fields), f"{call.where}: {code}"


def test_every_row_is_logged_somewhere_with_all_its_fields() -> None:
    fields, levels = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for call in CALLS:
        for code in call.codes:
            fields[code] |= call.fields if call.is_closed else set(ROWS[code].fields)
            levels[code].add(call.level)
    assert fields == {code: set(event.fields) for code, event in ROWS.items()}
    assert levels == {code: set(event.level.split(", ")) for code, event in ROWS.items()}


def test_codes_that_depend_on_what_is_wrong_are_named_where_it_is_found() -> None:
    found = {
        code
        for name in ("core_api", "route_validation", "route_file_on_disk")
        for path in (ROOT / "edge").rglob(f"{name}.py")
        for code in re.findall(r'"((?:core_api|routes_file)_[a-z_]+)"', path.read_text())
    }
    assert found == CORE_API_CODES | VARIABLE["routes file not used"]


def test_a_code_has_one_row_and_a_message_is_a_short_text_without_data() -> None:
    assert len(ROWS) == len(EVENTS)
    for code in ROWS:
        assert re.fullmatch(r"[a-z][a-z0-9_]+", code), code
    messages = defaultdict[str, set[str]](set)
    for call in CALLS:
        assert len(call.message) <= 60, call.where
        assert re.fullmatch(r"[A-Za-z][\w .-]+\w", call.message), call.where
        if call.message not in VARIABLE:
            for code in call.codes:
                messages[code].add(call.message)
    assert {code: texts for code, texts in messages.items() if len(texts) > 1} == {}


def test_nobody_logs_by_another_way() -> None:
    for path in (ROOT / "edge").rglob("*.py"):
        assert not re.search(
            r"getLogger\([^)]*\)\.(debug|info|warning|error|exception)|\blogger\.\w+\(\"", path.read_text()
        )


def test_the_page_in_docs_is_up_to_date() -> None:
    made = "python -m edge.rules.log_events > docs/log_events.md"
    assert PAGE.read_text() == render(), f"make it again: {made}"
