"""Draws what docs/ has in Mermaid, as SVG files in docs/drawings, for the site: it loads no script to draw them.

    npm pack mermaid@11 && tar xzf mermaid-*.tgz package/dist/mermaid.min.js
    python -m tests.support.site.mermaid package/dist/mermaid.min.js

A file is named by the hash of its source, so the site cannot show one that is out of date: the build fails, and so
does `tests/docs/test_site.py` when one is no longer used. Needs Chromium.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.support.drawings import DOCS, pages
from tests.support.site.site_hooks import MERMAID, drawing_of

DRAW = """async source => {
    mermaid.initialize({startOnLoad: false, theme: "neutral", htmlLabels: false, state: {htmlLabels: false},
                        flowchart: {htmlLabels: false}, fontFamily: "system-ui, sans-serif"});
    return (await mermaid.render("drawing", source)).svg;
}"""


def drawings() -> dict[str, str]:
    """All sources, by the name of the file in which each is drawn."""
    return {drawing_of(source): source for page in pages() for source in MERMAID.findall(page.read_text())}


def draw(script: Path) -> None:
    """Draw what is not drawn yet, and remove what no page has any more."""
    wanted = drawings()
    for file in (DOCS / "drawings").glob("mermaid-*.svg"):
        if f"drawings/{file.name}" not in wanted:
            file.unlink()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.add_script_tag(path=script)
        for name, source in wanted.items():
            if not (DOCS / name).exists():
                (DOCS / name).write_text(page.evaluate(DRAW, source).rstrip() + "\n")
        browser.close()


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
