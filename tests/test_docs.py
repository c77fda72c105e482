"""The documentation is up to date: what is made from the code, links, paths, and names of settings and metrics."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.rules.settings import Section, Settings
from edge.rules.settings.renamed import RENAMED
from tests.support.drawings import PART, ROOT, pages, renewed

LINKED = [ROOT / "SECURITY.md", ROOT / "CHANGELOG.md", ROOT / "bench" / "README.md"]
PAGES = [*pages(), *LINKED]
CODE_BLOCK = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
MODULE = re.compile(r"(?<![\w/.])([\w/]+\.py)\b")
SYMBOL = re.compile(r"`(edge/[\w/]+\.py)` `(\w+)`")
SETTING = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)(\*?)[`:]")
HAVE_MOVED = (ROOT / "edge" / "rules" / "http").is_dir()
"Whether modules lie in the folders that the pages name."

page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def anchors(page: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", CODE_BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@page_by_page
def test_what_is_made_from_the_code_is_up_to_date(page: Path) -> None:
    text = page.read_text()
    assert renewed(text) == text, "write it anew: python -m tests.support.drawings"


def test_each_drawing_and_table_is_in_one_page() -> None:
    names = [name for page in PAGES for _, name, _ in PART.findall(page.read_text())]
    assert sorted(names) == ["admin_api", "causes", "conditions", "log_fields", "page_names", "phases", "walk"]


@page_by_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(CODE_BLOCK.sub("", page.read_text())):
        if link.startswith(("https://", "http://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if _is_still_to_come(target):
            continue
        assert target.exists(), f"{link} does not exist"
        assert not anchor or anchor in anchors(target), f"{link} names no heading"


@page_by_page
def test_modules_that_are_named_exist(page: Path) -> None:
    """From the root on, or from any folder: file names are unique."""
    modules = [f"/{path.relative_to(ROOT)}" for folder in ("edge", "tests", "bench") for path in _modules(folder)]
    modules += [f"/{path.name}" for path in ROOT.glob("*.py")]
    for name in MODULE.findall(page.read_text()):
        is_one = any(module.endswith(f"/{name}") for module in modules)
        assert is_one or _is_still_to_come(ROOT / name), f"{name} does not exist"


@page_by_page
def test_symbols_that_are_named_are_in_their_modules(page: Path) -> None:
    for name, symbol in SYMBOL.findall(page.read_text()):
        if not _is_still_to_come(ROOT / name):
            assert re.search(rf"\b{symbol}\b", (ROOT / name).read_text()), f"{symbol} is not in {name}"


def test_every_folder_is_in_the_tree_of_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    tree = CODE_BLOCK.findall(text)[0]
    layers = dict(re.findall(r"^(edge/\w+/)(.*?)(?=^edge/|\Z)", tree, re.DOTALL | re.MULTILINE))
    for package in (ROOT / "edge").rglob("__init__.py"):
        layer, *inner = package.parent.relative_to(ROOT / "edge").parts or ("",)
        if layer:
            found = set(re.findall(r"(\w+)/ ", layers[f"edge/{layer}/"]))
            assert set(inner) <= found, f"{package.parent} is not in it"


def _modules(folder: str) -> Iterator[Path]:
    return (ROOT / folder).rglob("*.py")


def _is_still_to_come(path: Path) -> bool:
    return not HAVE_MOVED and (path.suffix == ".py" or path.name in {"metrics.md", "log_events.md"})


def names(section: type[Section], prefix: str = "") -> Iterator[str]:
    """All settings, and the sections that they are in."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from names(field.annotation, f"{prefix}{name}.")


@page_by_page
def test_settings_that_are_named_exist(page: Path) -> None:
    settings = set(names(Settings))
    if page.name == "CHANGELOG.md":
        settings |= RENAMED.keys()
    sections = {name for name in settings if "." not in name}
    for name, several in SETTING.findall(page.read_text()):
        if name.partition(".")[0] in sections:
            found = any(setting.startswith(name) for setting in settings) if several else name in settings
            assert found, f"there is no setting {name}"


def test_contributing_is_one_page_in_two_places() -> None:
    assert (ROOT / "CONTRIBUTING.md").resolve() == ROOT / "docs" / "contributing.md"
