"""The documentation site builds without a warning, is complete, and asks nobody else for anything."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edge.rules.settings.schema import settings_page
from tests.support.drawings import DOCS, ROOT, pages
from tests.support.site.mermaid import drawings


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    pytest.importorskip("material")
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(built)]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "WARNING" not in ran.stderr
    return built


class Loaded(HTMLParser):
    """What a page loads, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.loads.append(given.get("src") or "")
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loads.append(given.get("href") or "")
        elif tag == "a":
            self.links.append(given.get("href") or "")


def test_every_page_is_in_the_site(site: Path) -> None:
    for page in pages():
        name = "index.html" if page.name == "README.md" else f"{page.stem}.html"
        folder = page.parent.relative_to(DOCS) if page.is_relative_to(DOCS) else Path()
        assert (site / folder / name).exists(), name


def test_nothing_is_loaded_from_elsewhere_and_all_of_it_is_there(site: Path) -> None:
    built = [page for page in site.rglob("*.html") if page.name != "404.html"]
    assert len(built) > 60
    for page in built:
        loaded = Loaded(page.read_text())
        assert loaded.loads
        for name in loaded.loads:
            assert "//" not in name, f"{page.name} loads {name}"
            assert not name or name.startswith("data:") or (page.parent / name.partition("?")[0]).exists(), name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text())


def test_links_lead_to_files_of_the_site(site: Path) -> None:
    """Also those to sources, of which the site has copies."""
    for page in site.rglob("*.html"):
        for link in Loaded(page.read_text()).links:
            path = link.partition("#")[0]
            if path and ":" not in path and page.name != "404.html":
                assert (page.parent / path).exists(), f"{page.name}: {link}"
    assert (site / "source" / "edge" / "rules" / "outcomes.py.txt").read_text().startswith('"""Phases')


def test_each_drawing_in_mermaid_is_drawn_and_no_other() -> None:
    drawn = {f"drawings/{path.name}" for path in (DOCS / "drawings").glob("mermaid-*.svg")}
    assert drawn == drawings().keys(), "draw them: tests/support/site/mermaid.py"


def test_the_page_of_settings_is_up_to_date() -> None:
    made = "python -m edge.rules.settings.schema.settings_page > docs/settings.md"
    assert (DOCS / "settings.md").read_text() == settings_page.render(), f"make it again: {made}"
