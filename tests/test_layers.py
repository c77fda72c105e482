"""The import rules of the house: run -> net | admin | demo -> platform -> rules -> nothing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "edge"
FLOORS = {
    "rules": set(),
    "net": {"rules"},
    "admin": {"rules"},
    "platform": {"rules"},
    "demo": {"rules", "platform"},
    "run": {"rules", "net", "admin", "platform", "demo"},
}
NOT_IN_RULES = {"asyncio", "socket", "ssl", "time", "random", "logging", "os", "aiohttp", "uvloop", "structlog"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: absolute imports only"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted(ROOT.glob("*/*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    floor = path.parent.name
    for name in imports(path):
        head, *rest = name.split(".")
        if head == "edge" and rest and rest[0] != "__version__":
            assert rest[0] in FLOORS[floor] | {floor}, f"edge.{floor} must not know {name}"
        if floor == "rules":
            assert head not in NOT_IN_RULES, f"rules are pure: {path.name} imports {name}"


def test_every_module_name_is_unique() -> None:
    names = [p.name for p in ROOT.glob("**/*.py") if p.name != "__init__.py"]
    assert len(names) == len(set(names))


def test_only_the_parser_knows_the_c_parser() -> None:
    users = {p.name for p in ROOT.glob("**/*.py") if any(n.startswith("httptools") for n in imports(p))}
    assert users <= {"parser.py"}


def test_only_the_transport_is_asked_about_its_descriptor() -> None:
    """Under TLS, what the descriptor of a connection tells is not what its peer said."""
    users = {p.name for p in ROOT.glob("net/**/*.py") if 'get_extra_info("socket").fileno()' in p.read_text()}
    assert users == {"transports.py"}
