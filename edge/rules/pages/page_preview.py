"""Examples of all error pages, and an index of them to look at in a browser."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Final, NamedTuple
from urllib.parse import quote

from edge.rules.http.local_reply import LocalReplies
from edge.rules.outcomes import VERDICTS, Cause
from edge.rules.pages.default_page import BUILT_IN
from edge.rules.pages.page_table import PageTable
from edge.rules.pages.template_files import SITES

EXAMPLES: Final[Mapping[tuple[str, int], Cause]] = {
    (verdict.reason, verdict.status): cause
    for cause, verdict in reversed(tuple(VERDICTS.items()))
    if verdict.reason and verdict.status != 499
}
"A cause for each reason and status that somebody receives."
HOSTNAME: Final = "www.example.com"
REQUEST_ID: Final = "7c9e6679a2f4-1"
BUILT_IN_NAME: Final = "built in"


class PreviewedPage(NamedTuple):
    """One example."""

    reason: str
    status: int
    site: str
    "Empty = a site without templates of its own."
    language: str
    "That the client prefers."
    template: str
    "Name of the file that was used, or BUILT_IN_NAME."
    body: bytes

    @property
    def path(self) -> str:
        """Where it is, from the index on."""
        folder = f"{SITES}/{self.site}" if self.site else "common"
        return f"{folder}/{self.language}/{self.status}-{self.reason}.html"


def previewed_page(pages: PageTable, cause: Cause, site: str, language: str) -> PreviewedPage:
    """The page for this cause. `language`: the value of an `Accept-Language` field."""
    verdict, field = VERDICTS[cause], language.encode("ascii", "replace")
    reply = LocalReplies(pages).error(
        cause, accept=b"text/html", accept_language=field, host=HOSTNAME, site=site, request_id=REQUEST_ID
    )
    template = pages.find(verdict.reason, verdict.status, site=site, accept_language=field)
    name = BUILT_IN_NAME if template is None else template.name
    return PreviewedPage(verdict.reason, verdict.status, site, language, name, reply.body)


def languages_of(pages: PageTable) -> tuple[str, ...]:
    """The languages in which there are pages, built-in ones included."""
    return tuple(sorted({*pages.languages, *BUILT_IN}))


def previewed_pages(pages: PageTable, sites: Iterable[str], languages: Sequence[str]) -> Iterator[PreviewedPage]:
    """An example for each site, reason and language, in this order."""
    for site in sites:
        for _, cause in sorted(EXAMPLES.items(), key=lambda item: (item[0][1], item[0][0])):
            for language in languages:
                yield previewed_page(pages, cause, site, language)


_INDEX: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Error pages</title>
<style>
:root {{ --page: #f6f7f9; --card: #fff; --text: #1c2330; --soft: #626c7c; --line: #e1e5ea; --mark: #3658d4 }}
@media (prefers-color-scheme: dark) {{
  :root {{ --page: #12151b; --card: #1a1f28; --text: #e8ebf0; --soft: #99a3b3; --line: #2b323e; --mark: #8ba4ff }}
}}
body {{ margin: 0 auto; max-width: 90rem; padding: 2rem 1.5rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif }}
h1, h2 {{ line-height: 1.2 }}
h2 {{ margin: 3rem 0 1rem; padding-bottom: .5rem; border-bottom: 1px solid var(--line) }}
h3 {{ margin: 1.5rem 0 .5rem; font-size: 1rem }}
p, small {{ color: var(--soft) }}
ul {{ display: flex; flex-wrap: wrap; gap: 1rem; margin: 0; padding: 0; list-style: none }}
li {{ width: 20rem }}
li div {{ height: 12rem; overflow: hidden; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--card) }}
iframe {{ width: 64rem; height: 38.4rem; border: 0; transform: scale(.3125); transform-origin: 0 0;
  pointer-events: none }}
a {{ color: var(--mark) }}
</style>
</head>
<body>
<h1>Error pages</h1>
<p>{count} examples from {directory}. Below each: the language that the client prefers, and the template.</p>
{sections}</body>
</html>
"""


def preview_index(previewed: Iterable[PreviewedPage], directory: str) -> str:
    """The HTML of an index of these pages. `directory`: where their templates are."""
    sections: dict[str, dict[str, list[PreviewedPage]]] = defaultdict(lambda: defaultdict(list))
    count = 0
    for page in previewed:
        sections[page.site][f"{page.status} {page.reason}"].append(page)
        count += 1
    parts = []
    for site, rows in sections.items():
        parts.append(f"<h2>{escape(f'Site {site}' if site else 'All sites')}</h2>\n")
        for title, shown in rows.items():
            parts.append(f"<h3>{escape(title)}</h3>\n<ul>\n{''.join(map(_item, shown))}</ul>\n")
    return _INDEX.format(count=count, directory=escape(directory), sections="".join(parts))


def _item(page: PreviewedPage) -> str:
    path, title = escape(quote(page.path)), escape(f"{page.status} {page.reason}, {page.language}")
    return (
        f'<li><div><iframe src="{path}" title="{title}" loading="lazy" sandbox tabindex="-1"></iframe></div>'
        f'<a href="{path}">{escape(page.language)}</a> <small>{escape(page.template)}</small></li>\n'
    )
