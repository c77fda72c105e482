"""Files of error page templates: the meaning of their names, limits on them, and which of them are used.

REASON.html    STATUS.html    4xx.html    5xx.html    error.html        for all sites
sites/SITE/...                                                          for this site, by the same names
REASON.LANGUAGE.html ...                                                in this language
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from edge.rules.nearest_names import nearest_names
from edge.rules.outcomes import VERDICTS
from edge.rules.pages.accept_language import LANGUAGE
from edge.rules.pages.page_records import PageRecord
from edge.rules.pages.page_template import BadTemplate, PageTemplate, TemplateFault, page_template

SUFFIX: Final = ".html"
"Other files are none of ours: style sheets, notes, what editors leave."
SITES: Final = "sites"
"The folder with a folder for each site."
MOST_TEMPLATES: Final = 1000
MOST_BYTES: Final = 4 << 20
"Templates that are used, and bytes of all of them: each worker holds them, and gets them in one message."
LONGEST_SITE: Final = 255
"Characters of a site, as the core API names it."
DEFAULT_LANGUAGE: Final = "en"
"Of a template that names none: neither its file nor its `<html lang>`."
MOST_HEAD: Final = 4096
"Bytes in which `<html lang>` is looked for."

_REPLIES: Final = sorted({(v.reason, v.status) for v in VERDICTS.values() if v.reason and v.status != 499})
"Reason and status of all replies that somebody receives."
ERROR: Final = "error"
REASONS: Final = tuple(dict.fromkeys(reason for reason, _ in _REPLIES))
STATUSES: Final = tuple(sorted({str(status) for _, status in _REPLIES}))
KINDS: Final[frozenset[str]] = frozenset({*REASONS, *STATUSES, "4xx", "5xx", ERROR})
"What a template may be for."

_LANG: Final = re.compile(rb"""<html\b[^>]*\slang\s*=\s*["']?([A-Za-z0-9-]+)""", re.IGNORECASE)


class PageKey(NamedTuple):
    """The replies that a template is for, from the name of its file."""

    site: str
    "Empty = all sites."
    kind: str
    "A member of KINDS."
    language: str
    "In lower case; empty = the name has none."


class PageFault(NamedTuple):
    """Why a template, or its new content, is not used."""

    name: str
    "Name of the file, from the directory of pages on."
    fault: TemplateFault

    def text(self, directory: str) -> str:
        """As `file:line:column: words`."""
        line, column, words = self.fault
        return f"{directory}/{self.name}:{line}:{column}: {words}"


class CheckedPages(NamedTuple):
    """The templates to use, and the faults of the others."""

    files: dict[str, bytes]
    "Content by name; of a file with a fault, what it had before."
    faults: list[PageFault]


class PagesState:
    """The state of the directory of pages, for metrics."""

    __slots__ = ("faults", "is_readable", "is_used", "templates")

    def __init__(self) -> None:
        self.reset(is_used=False)

    def reset(self, *, is_used: bool) -> None:
        """Begin with another directory, or none."""
        self.is_used = is_used
        "Whether there is such a directory."
        self.is_readable = True
        self.templates = 0
        "Templates in use."
        self.faults = 0
        "Templates that are not used, or not with their new content."


class FoundPage(NamedTuple):
    """A usable template and what it is for."""

    key: PageKey
    template: PageTemplate
    is_default: bool
    "Whether it is for clients that want no language of its kind: its name has none."


def page_key(name: str) -> PageKey:
    """What the template of this name is for. Raises ValueError, with words for the operator."""
    *folders, file = name.split("/")
    kind, _, language = file.removesuffix(SUFFIX).partition(".")
    if kind not in KINDS:
        near = nearest_names(kind, KINDS, 1)
        raise ValueError(f"{kind} is no reason or status of styx" + (f": did you mean {near[0]}?" if near else ""))
    if language and not LANGUAGE.fullmatch(language):
        raise ValueError(f"{language} is no language tag, such as de or pt-BR")
    site = folders[1] if len(folders) == 2 else ""
    if len(site) > LONGEST_SITE or not site.isprintable():
        raise ValueError("the folder has no name of a site")
    return PageKey(site, kind, language.lower())


def found_page(name: str, data: bytes) -> FoundPage:
    """The template in this file. Raises BadTemplate."""
    try:
        key = page_key(name)
    except ValueError as error:
        raise BadTemplate([TemplateFault(1, 1, str(error))]) from error
    own = name.rpartition("/")[2].removesuffix(SUFFIX).partition(".")[2] or _language_in(data)
    template = page_template(name, own, data)
    return FoundPage(key._replace(language=own.lower()), template, not key.language)


def checked_pages(found: Mapping[str, bytes | str], before: Mapping[str, bytes]) -> CheckedPages:
    """Choose the templates to use. `found`: content by name, or why it cannot be read. `before`: those in use; they
    stay where the new content has a fault, and end where there is none any more."""
    files: dict[str, bytes] = {}
    faults: list[PageFault] = []
    total = 0
    keys: dict[PageKey, str] = {}
    for name in sorted(found, key=importance):
        new, wrong = found[name], list[TemplateFault]()
        content = _usable(name, new, keys, wrong)
        if content is None and name in before:
            content = _usable(name, before[name], keys, [])
        if content is not None and (len(files) == MOST_TEMPLATES or total + len(content) > MOST_BYTES):
            wrong.append(TemplateFault(1, 1, _beyond(len(files))))
            content = None
        if content is not None:
            files[name] = content
            total += len(content)
        faults += (PageFault(name, fault) for fault in wrong)
    return CheckedPages(files, faults)


def record_of(page: FoundPage) -> PageRecord:
    """The record from which `page_of` makes the page again."""
    template = page.template
    return PageRecord(*page.key, page.is_default, template.name, template.language, template.texts, template.names)


def page_of(record: PageRecord) -> FoundPage:
    """The page of a record; nothing is checked again."""
    key = PageKey(record.site, record.kind, record.key_language)
    template = PageTemplate(record.name, record.language, record.texts, record.names)
    return FoundPage(key, template, record.is_default)


def usable_pages(files: Iterable[tuple[str, bytes]]) -> list[FoundPage]:
    """The templates in files that were checked. One with a fault all the same is left out."""
    pages = []
    for name, data in files:
        try:
            pages.append(found_page(name, data))
        except BadTemplate:
            continue
    return pages


def importance(name: str) -> tuple[bool, str]:
    """The order of templates: common ones first, for they are the last to be left out."""
    return "/" in name, name


def _usable(name: str, content: bytes | str, keys: dict[PageKey, str], wrong: list[TemplateFault]) -> bytes | None:
    """This content, if it can be used; else `wrong` gets why it cannot. `keys`: what there are templates for."""
    if isinstance(content, str):
        wrong.append(TemplateFault(1, 1, content))
        return None
    try:
        page = found_page(name, content)
    except BadTemplate as error:
        wrong += error.faults
        return None
    key = page.key if not page.is_default else page.key._replace(language="")
    if keys.setdefault(key, name) != name:
        wrong.append(TemplateFault(1, 1, f"is for the same replies as {keys[key]}"))
        return None
    return content


def _beyond(count: int) -> str:
    if count == MOST_TEMPLATES:
        return f"there are {MOST_TEMPLATES} templates already, and no more are used"
    return f"all templates together are larger than {MOST_BYTES >> 20} MiB"


def _language_in(data: bytes) -> str:
    match = _LANG.search(data[:MOST_HEAD])
    language = match[1].decode() if match else ""
    return language if LANGUAGE.fullmatch(language) else DEFAULT_LANGUAGE
