"""Selects the template of a local reply: the most specific one for its site and reason, in the client's preferred
language.

    of the site:    REASON   STATUS   4xx, 5xx   error
    of all sites:   REASON   STATUS   4xx, 5xx   error
    none of them:   the built-in page

The first of these that there is in a language of the client, or without a language in its name, is used. So a page
of the site comes before a common one that fits the reason or the language better.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from edge.rules.pages.accept_language import look_up, preferred_languages
from edge.rules.pages.page_template import PageTemplate
from edge.rules.pages.template_files import ERROR, FoundPage


class PageVariants:
    """The templates for one reason, status or class of one site: one for each language."""

    __slots__ = ("by_language", "default")

    def __init__(self) -> None:
        self.by_language: dict[str, PageTemplate] = {}
        self.default: PageTemplate | None = None
        "The one without a language in its name."

    def best(self, languages: Sequence[str]) -> PageTemplate | None:
        """The one in the first of these languages; else the default, if there is one."""
        language = look_up(languages, self.by_language) if languages else None
        return self.default if language is None else self.by_language[language]


class PageTable:
    """All templates of a directory. Never changes: another content is another table."""

    __slots__ = ("_sites", "count", "languages")

    def __init__(self, pages: Iterable[FoundPage] = ()) -> None:
        self._sites: dict[str, dict[str, PageVariants]] = {}
        'By site, of which "" is all sites; then by what they are for.'
        self.count = 0
        languages = set()
        for page in pages:
            variants = self._sites.setdefault(page.key.site, {}).setdefault(page.key.kind, PageVariants())
            if page.is_default:
                variants.default = page.template
                variants.by_language.setdefault(page.key.language, page.template)
            else:
                variants.by_language[page.key.language] = page.template
            languages.add(page.key.language)
            self.count += 1
        self.languages = tuple(sorted(languages))
        "Of all templates, in lower case."

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites with templates of their own."""
        return tuple(sorted(site for site in self._sites if site))

    def find(self, reason: str, status: int, *, site: str, accept_language: bytes) -> PageTemplate | None:
        """The template for a reply; None = the built-in page. `site`: "" = unknown. `accept_language`: the value of
        the request's field."""
        languages = preferred_languages(accept_language) if accept_language else ()
        kinds = (reason, str(status), "4xx" if status < 500 else "5xx", ERROR)
        for pages in (self._sites.get(site) if site else None, self._sites.get("")):
            if pages is not None:
                for kind in kinds:
                    variants = pages.get(kind)
                    template = None if variants is None else variants.best(languages)
                    if template is not None:
                        return template
        return None


NO_PAGES: Final = PageTable()
"Only the built-in page."
