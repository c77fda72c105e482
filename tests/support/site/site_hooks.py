"""Hooks of MkDocs (`mkdocs.yml`): what the site has besides docs/, and how links to it are written.

README.md is the first page. A link to a file that is no page, such as a module, leads to a copy of it as text, so
the site is complete without a repository. MkDocs loads this file by its path: it imports nothing of the tests.
"""

import posixpath
import re
from hashlib import sha256
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[3]
PAGES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "benches.md": "bench/README.md",
}
"Pages from outside of docs/: their name in the site, and where they are."
INSTEAD = {"config/styx.yaml": "settings.md"}
"Files that have a page of their own."
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
NESTED = re.compile(r"^  (?=[-*] )", re.MULTILINE)


def drawing_of(source: str) -> str:
    """The file below docs/ in which this text in Mermaid is drawn."""
    return f"drawings/mermaid-{sha256(source.encode()).hexdigest()[:12]}.svg"


def site_path(target: Path) -> str | None:
    """Where this file of the checkout is in the site; None = it is not there."""
    name = target.relative_to(ROOT).as_posix()
    if name in INSTEAD:
        return INSTEAD[name]
    for page, source in PAGES.items():
        if name == source:
            return page
    if name == "CONTRIBUTING.md":
        return "contributing.md"
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return f"source/{name.removeprefix('.')}.txt" if target.is_file() else None


def source_of(page: str) -> Path:
    """The file that the page of this name is made from."""
    return ROOT / PAGES[page] if page in PAGES else ROOT / "docs" / page


def title_of(page: Path) -> str:
    """The heading of a page."""
    return page.read_text().partition("\n")[0].lstrip("# ")


def linked_from(page: str, text: str) -> list[Path]:
    """The files of the checkout that this page links to."""
    links = (link.partition("#")[0] for _, _, link in LINK.findall(CODE.sub("", text)) if "://" not in link)
    return [(source_of(page).parent / link).resolve() for link in links if link]


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages from outside of docs/, and copies of all files that pages link to."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for file in list(files.documentation_pages()):
        for target in linked_from(file.src_uri, file.content_string):
            name = site_path(target)
            if name is not None and name.startswith("source/") and files.get_file_from_path(name) is None:
                files.append(File.generated(config, name, content=target.read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """GitHub's dialect and its links, as MkDocs reads them."""
    name = page.file.src_uri
    folder = posixpath.dirname(name)

    def drawn(match: re.Match[str]) -> str:
        drawing = drawing_of(match[1])
        if not (ROOT / "docs" / drawing).exists():
            raise PluginError(f"{name}: not drawn yet; python -m tests.support.site.mermaid draws it")
        moves = "; ".join(line.strip().replace("-->", "to") for line in match[1].splitlines()[1:] if "-->" in line)
        path = posixpath.relpath(drawing, folder or ".")
        return f"[![State diagram: {moves.replace('[*]', 'start')}]({path})]({path})"

    def linked(match: re.Match[str]) -> str:
        image, text, link = match.groups()
        path, hash_mark, anchor = link.partition("#")
        if "://" in link or not path:
            return match[0]
        target = (source_of(name).parent / path).resolve()
        found = site_path(target)
        if found is None:
            return text  # a folder
        if text.endswith(".md") and target.suffix == ".md":
            text = title_of(target)
        return f"{image}[{text}]({posixpath.relpath(found, folder or '.')}{hash_mark}{anchor})"

    parts = CODE.split(MERMAID.sub(drawn, markdown))
    parts[::2] = [LINK.sub(linked, NESTED.sub("    ", part)) for part in parts[::2]]
    return "".join(parts)
