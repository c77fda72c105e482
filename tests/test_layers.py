"""The rules of the house that a machine can check: imports, names, questions and sizes.

Imports point one way, run -> net | demo -> admin | platform -> rules -> nothing, and never in a circle. Exceptions
stand in the tables below, each with its reason; `test_exceptions_are_needed` finds those that are no longer needed.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "edge"
FLOORS = {
    "rules": set(),
    "net": {"rules"},
    "admin": {"rules"},
    "platform": {"rules"},
    "demo": {"rules", "admin", "platform"},
    "run": {"rules", "net", "admin", "platform", "demo"},
}
NOT_IN_RULES = {"asyncio", "socket", "ssl", "time", "random", "logging", "os", "aiohttp", "uvloop", "structlog"}

KNOWN_CYCLES: tuple[tuple[frozenset[str], str], ...] = ()
"Modules that import each other, if only for the types, and why."

TESTED_ELSEWHERE: Mapping[str, str] = {
    "messages": "two heads without logic",
    "exchange_observers": "two interfaces without logic",
    "listener_counts": "counters without logic",
    "translation": "a record without logic",
}
"Modules of rules without a test file of their name, and why. Records and sections of settings need none."

MOST_LINES = 450
LONG_FILES: Mapping[str, str] = {
    "log_events": "one table: a row for each event",
    "metrics_table": "one table: a row for each metric",
}
"Modules of more than MOST_LINES lines, and why."

MOST_FUNCTION_LINES = 50
LONG_FUNCTIONS: Mapping[str, str] = {}
"Functions of more than MOST_FUNCTION_LINES lines, and why."

MOST_ATTRIBUTES = 14
_RECORD = "a record: its attributes are its purpose"
_PER_CONNECTION = "one object for each connection: to split it costs memory and calls"
LARGE_CLASSES: Mapping[str, str] = {
    "ClientInfo": _PER_CONNECTION,
    "DemoContainer": _RECORD,
    "ExplainedBackend": _RECORD,
    "ExplainedRoute": _RECORD,
    "DetailedOutcome": _RECORD,
    "ExchangeTrace": _RECORD,
    "Outcome": _RECORD,
    "Request": _RECORD,
    "Route": _RECORD,
    "BackendState": _RECORD,
    "LimitSettings": "a section of the configuration: an attribute for each setting",
    "Settings": "the whole configuration: an attribute for each section",
    "FrameGuard": _PER_CONNECTION,
    "H1Backend": _PER_CONNECTION,
    "H2Connection": _PER_CONNECTION,
    "H2Lifetime": _PER_CONNECTION,
    "TlsAccept": _PER_CONNECTION,
    "TlsTransport": _PER_CONNECTION,
    "H2Stream": "one object for each request: to split it costs memory and calls",
    "ExchangeState": "one object for each request: to split it costs memory and calls",
    "Environment": "one object for each environment: what its hostnames share",
    "Demerits": "one object for each environment, read for each request",
    "WorkerContext": "everything that a worker has once",
    "TlsService": "everything that a worker has once for TLS of clients",
    "CertificateFiles": "what a worker has once of a directory of certificates, with numbers for metrics",
    "IssuanceRecord": _RECORD,
    "Issuer": "the collaborators of the issuer, and the orders under way",
    "CertificateResolver": "the collaborators of the resolver, and the lookups under way",
    "RouteResolver": "the collaborators of the resolver, and the lookups under way",
    "Pool": "limits, counts and shelves of all kept connections",
    "Worker": "what a worker has once: listeners, log, tracer, TLS",
    "ControlServer": "what the admin process has once of all workers",
    "AdminProcess": "what the admin process has once",
}
"Classes of more than MOST_ATTRIBUTES attributes, and why."

MOST_MODULES = 15
LARGE_FOLDERS: Mapping[str, tuple[int, str]] = {}
"Folders of more than MOST_MODULES modules: how many they may have, and why."

QUESTION = re.compile(r"_?(is|are|has|can|may|must|should|needs|allows|knows)(_|$)|_?(passed|believed)$")
"Names of functions that are questions: who asks one does not expect that it changes anything."
CHANGES = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "move_to_end", "pop", "popitem"}
    | {"popleft", "remove", "setdefault", "update"}
)
"Methods of containers that change them."
ACTING_QUESTIONS: Mapping[str, str] = {
    "H1Backend.has_no_input": "makes the poll object at its first use, and keeps it",
    "Successor.ready": "reads what the successor process has written meanwhile, and keeps it",
}
"Questions that assign an attribute, and why."

COMPILED = frozenset({"rules", "net", "admin"})
"Floors that can be compiled: what msgspec decodes or encodes needs annotations at run time, and stands apart."
RECORDS = frozenset({"msgspec.Struct", "Attempted", "Outcome"})
"Bases of records."
MIXED_RECORDS: Mapping[str, str] = {}
"Modules on those floors with records and other things in them, and why."


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def files() -> tuple[Path, ...]:
    """All modules of the package, however deep; a package's `__init__` is one when there is anything in it."""
    found = tuple(p for p in sorted(ROOT.rglob("*.py")) if p.parent != ROOT)
    assert len(found) > 100, "where are they?"
    return found


def modules() -> dict[str, Path]:
    """By their name without folders, for it is unique, and modules move."""
    return {p.stem: p for p in files() if p.name != "__init__.py"}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Everything that is imported anywhere in it: also in functions, and for types only."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: absolute imports only"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def classes(path: Path) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> Iterator[tuple[str, Function]]:
    """Functions and methods with their qualified names, less the module's."""

    def inside(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield prefix + child.name, child
                yield from inside(child, f"{prefix}{child.name}.")
            else:
                yield from inside(child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix)

    return inside(tree(path), "")


# Imports


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    floor = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        head, *rest = name.split(".")
        if head == "edge" and rest and rest[0] not in ("BUILD", "__version__"):
            assert rest[0] in FLOORS[floor] | {floor}, f"edge.{floor} must not know {name}"
        if floor == "rules":
            assert head not in NOT_IN_RULES, f"rules are pure: {path.name} imports {name}"


def test_only_the_parser_knows_the_c_parser() -> None:
    users = {p.name for p in files() if any(n.startswith("httptools") for n in imports(p))}
    assert users <= {"llhttp_parser.py"}


def test_only_the_transport_is_asked_about_its_descriptor() -> None:
    """Under TLS, what the descriptor of a connection tells is not what its peer said."""
    users = {p.name for p in ROOT.glob("net/**/*.py") if 'get_extra_info("socket").fileno()' in p.read_text()}
    assert users == {"socket_state.py"}


def cycles(graph: Mapping[str, Iterable[str]]) -> list[frozenset[str]]:
    """Groups of nodes that reach each other (Tarjan, 1972: strongly connected components)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []

    def visit(node: str) -> None:
        index[node] = lowest[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], index[other])
        if lowest[node] == index[node]:
            at = stack.index(node)
            found.append(frozenset(stack[at:]))
            del stack[at:]

    for node in graph:
        if node not in index:
            visit(node)
    return [group for group in found if len(group) > 1]


def test_cycles_are_found() -> None:
    graph = {"a": ["b"], "b": ["c"], "c": ["b", "d"], "d": ["e"], "e": ["d"], "f": ["a"]}
    assert set(cycles(graph)) == {frozenset("bc"), frozenset("de")}


@cache
def import_cycles() -> list[frozenset[str]]:
    names = {dotted(path): name for name, path in modules().items()}
    graph = {
        name: sorted({names[found] for found in imports(path) if found in names} - {name})
        for name, path in modules().items()
    }
    return cycles(graph)


def test_no_module_imports_itself_by_others() -> None:
    new = [sorted(group) for group in import_cycles() if not any(group <= known for known, _ in KNOWN_CYCLES)]
    assert not new


# Names


def test_every_module_name_is_unique() -> None:
    names = Counter(p.name for p in files() if p.name != "__init__.py")
    assert not [name for name, count in names.items() if count > 1]


def test_every_class_name_is_unique() -> None:
    names = Counter(node.name for path in files() for node in classes(path))
    assert not [name for name, count in names.items() if count > 1]


# Questions


def is_question(node: Function) -> bool:
    is_property = any(ast.unparse(d) in ("property", "cached_property") for d in node.decorator_list)
    says_bool = node.returns is not None and ast.unparse(node.returns) == "bool"
    return bool(QUESTION.match(node.name)) or (is_property and says_bool)


def assigns_attribute(node: Function) -> bool:
    """Whether it assigns or deletes an attribute, or an item of one, or changes a container that is one."""
    for inner in ast.walk(node):
        match inner:
            case ast.Attribute(ctx=ast.Store() | ast.Del()):
                return True
            case ast.Subscript(value=ast.Attribute(), ctx=ast.Store() | ast.Del()):
                return True
            case ast.Call(func=ast.Attribute(value=ast.Attribute(), attr=attr)) if attr in CHANGES:
                return True
    return False


def calls_of_self(node: Function) -> set[str]:
    """Its own methods that a method calls."""
    return {
        inner.func.attr
        for inner in ast.walk(node)
        if isinstance(inner, ast.Call)
        and isinstance(inner.func, ast.Attribute)
        and isinstance(inner.func.value, ast.Name)
        and inner.func.value.id == "self"
    }


def acting_questions(path: Path) -> Iterator[str]:
    """Questions that assign an attribute, by themselves or by a method of their own class."""
    found = dict(functions(path))
    acting = {name for name, node in found.items() if assigns_attribute(node)}
    calls = {name: {f"{name.rpartition('.')[0]}.{m}" for m in calls_of_self(node)} for name, node in found.items()}
    while more := {name for name in found if name not in acting and not acting.isdisjoint(calls[name])}:
        acting |= more
    return (name for name in found if name in acting and is_question(found[name]))


def test_acting_questions_are_found(tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(
        "class Sample:\n"
        "    def is_direct(self): self.x = 1\n"
        "    def has_item(self): del self.x[0]\n"
        "    def may_grow(self): self.x.append(1)\n"
        "    def can_call(self): return self._act()\n"
        "    def _act(self): self.x += 1\n"
        "    @property\n"
        "    def ready(self) -> bool: self.x = 1\n"
        "    def is_innocent(self): x = []; x.append(self.x); return x\n"
        "    def record(self) -> bool: self.x = 1\n"
    )
    assert list(acting_questions(path)) == [
        "Sample.is_direct",
        "Sample.has_item",
        "Sample.may_grow",
        "Sample.can_call",
        "Sample.ready",
    ]


def test_questions_do_not_act() -> None:
    found = [f"{path.name}: {name}" for path in files() for name in acting_questions(path)]
    assert not [entry for entry in found if entry.split(": ")[1] not in ACTING_QUESTIONS]


# Records


def is_record(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base) in RECORDS for base in node.bases)


def mixed_records() -> set[str]:
    """Modules with records in which there is more than classes of data: a function, or a class of another kind."""
    found = set()
    for path in files():
        body = tree(path).body
        records = [part for part in body if isinstance(part, ast.ClassDef) and is_record(part)]
        others = [part for part in body if isinstance(part, ast.ClassDef | Function) and part not in records]
        if records and others and path.relative_to(ROOT).parts[0] in COMPILED:
            found.add(path.stem)
    return found


def test_records_stand_apart() -> None:
    assert not mixed_records() - MIXED_RECORDS.keys()


# Tests


def without_tests() -> set[str]:
    """Modules of rules of which no test file has the name, wherever it lies."""
    tests = {path.stem for path in Path(__file__).parent.rglob("test_*.py")}
    found = set()
    for name, path in modules().items():
        folders = path.relative_to(ROOT).parts[:-1]
        is_data = all(is_record(node) for node in classes(path)) and not any(
            isinstance(part, Function) for part in tree(path).body
        )
        if folders[0] == "rules" and "settings" not in folders and not is_data and f"test_{name}" not in tests:
            found.add(name)
    return found


def test_rules_have_tests_of_their_name() -> None:
    assert not without_tests() - TESTED_ELSEWHERE.keys()


# Sizes


def attributes(node: ast.ClassDef) -> set[str]:
    """Those of an instance: fields, slots, and what its methods assign."""
    found: set[str] = set()
    for part in node.body:
        match part:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                if "ClassVar" not in ast.unparse(annotation):
                    found.add(name)
            case ast.Assign(targets=[ast.Name(id="__slots__")], value=slots):
                named = ast.literal_eval(slots)
                found.update([named] if isinstance(named, str) else named)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found.update(
                    inner.attr
                    for inner in ast.walk(part)
                    if isinstance(inner, ast.Attribute)
                    and isinstance(inner.ctx, ast.Store)
                    and isinstance(inner.value, ast.Name)
                    and inner.value.id == "self"
                )
    return found - {"__weakref__"}


def long_files() -> dict[str, int]:
    lines = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    return {name: count for name, count in lines.items() if count > MOST_LINES}


def long_functions() -> dict[str, int]:
    lines = {name: (node.end_lineno or 0) - node.lineno + 1 for path in files() for name, node in functions(path)}
    return {name: count for name, count in lines.items() if count > MOST_FUNCTION_LINES}


def large_classes() -> dict[str, int]:
    counts = {node.name: len(attributes(node)) for path in files() for node in classes(path)}
    return {name: count for name, count in counts.items() if count > MOST_ATTRIBUTES}


def large_folders() -> dict[str, int]:
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in modules().values())
    return {name: count for name, count in counts.items() if count > MOST_MODULES}


def test_no_pattern_repeats_a_group_possessively() -> None:
    """CPython before 3.11.5, such as that of Debian 12, matches such a pattern wrongly, or for ever, if there are
    alternatives in the group (python/cpython#106052). A repeated character, as in `[ ]*+`, is no group."""
    possessive = re.compile(r"(?<!\()\)(?:[*+?]|\{[\d,]+\})\+|\(\?>")
    found = set()
    for path in files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
                if possessive.search(text):
                    found.add(f"{path.name}:{node.lineno}")
    assert not found


def test_files_are_short() -> None:
    assert not {name: count for name, count in long_files().items() if name not in LONG_FILES}


def test_functions_are_short() -> None:
    assert not {name: count for name, count in long_functions().items() if name not in LONG_FUNCTIONS}


def test_classes_are_small() -> None:
    assert not {name: count for name, count in large_classes().items() if name not in LARGE_CLASSES}


def test_folders_are_small() -> None:
    allowed = {name: most for name, (most, _) in LARGE_FOLDERS.items()}
    assert not {name: count for name, count in large_folders().items() if count > allowed.get(name, MOST_MODULES)}


def test_exceptions_are_needed() -> None:
    """What no longer breaks a rule leaves its table."""
    questions = {name for path in files() for name in acting_questions(path)}
    unneeded = {
        "TESTED_ELSEWHERE": TESTED_ELSEWHERE.keys() - without_tests(),
        "LONG_FILES": LONG_FILES.keys() - long_files(),
        "LONG_FUNCTIONS": LONG_FUNCTIONS.keys() - long_functions(),
        "LARGE_CLASSES": LARGE_CLASSES.keys() - large_classes(),
        "LARGE_FOLDERS": LARGE_FOLDERS.keys() - large_folders(),
        "MIXED_RECORDS": MIXED_RECORDS.keys() - mixed_records(),
        "ACTING_QUESTIONS": ACTING_QUESTIONS.keys() - questions,
        "KNOWN_CYCLES": {min(known) for known, _ in KNOWN_CYCLES if not any(c <= known for c in import_cycles())},
    }
    assert not {table: names for table, names in unneeded.items() if names}
