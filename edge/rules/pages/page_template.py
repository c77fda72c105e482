"""Templates of error pages: text with `$name` where a value is put in.

A template is checked as a whole before it is used, so that none can fail while a reply is made. Values are escaped
for HTML; so they may stand in text and in attributes, but not where a browser reads something else: in scripts,
styles and event handlers.
"""

import re
from collections.abc import Iterator, Mapping
from html import escape
from itertools import islice
from typing import Final, NamedTuple

from edge.rules.nearest_names import nearest_names

NAMES: Final[Mapping[str, str]] = {
    "status": "the status code, such as 404",
    "title": "its phrase, such as Not Found, in the same language",
    "reason": "the reason, as in X-Styx-Error",
    "message": "one sentence for the visitor, in the language of this page; in English if styx has no translation",
    "hostname": "the hostname that was asked for",
    "site": "the site, as the core API names it; empty if there is none",
    "request_id": "the id of the request, as in X-Request-Id and in the access log",
    "retry_after": "the seconds in Retry-After; empty if there is none",
    "language": "the language of this page, such as de",
}
"What can be put into a page."
MOST_TEMPLATE_BYTES: Final = 128 << 10
"Bytes of one template."
MOST_PLACEHOLDERS: Final = 100
"Placeholders in one template: with them, a page is at most 300 KiB longer than its template."
MOST_FAULTS: Final = 20
"Faults of one template that are reported."

_PLACEHOLDER: Final = re.compile(
    r"\$(?:(?P<dollar>\$)|(?P<bare>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\}|(?P<open>\{))", re.ASCII
)
"A `$` before anything else is a dollar sign."
_RAW: Final = re.compile(r"<(script|style)\b.*?(?:</\1|\Z)", re.IGNORECASE | re.DOTALL)
"Elements whose text is not HTML: what is in them is left as it is."
_IN_HANDLER: Final = re.compile(r"""<[^<>]*[\s/]on\w+\s*=\s*(?:"[^"]*|'[^']*|[^\s"'>]*)\Z""", re.IGNORECASE)
_TAG_BYTES: Final = 4096
"Characters before a placeholder in which its tag begins."


class TemplateFault(NamedTuple):
    """Why a template is not used."""

    line: int
    column: int
    words: str


class BadTemplate(Exception):
    """A template that cannot be used."""

    def __init__(self, faults: list[TemplateFault]) -> None:
        super().__init__("; ".join(f"{line}:{column}: {words}" for line, column, words in faults))
        self.faults = faults


class PageTemplate:
    """A checked template: the text between its placeholders, and their names."""

    __slots__ = ("_used", "language", "name", "names", "texts")

    def __init__(self, name: str, language: str, texts: list[bytes], names: list[str]) -> None:
        """`name`: that of its file. `language`: a language tag. `texts`: one more than `names`."""
        self.name = name
        self.language = language
        self.texts = texts
        self.names = names
        self._used = frozenset(names)

    @property
    def size(self) -> int:
        """Bytes of its text, without values."""
        return sum(map(len, self.texts))

    def rendered(self, values: Mapping[str, str]) -> bytes:
        """The page with these values, which are escaped. `values`: those of NAMES but the language."""
        escaped = {name: escape(self.language if name == "language" else values[name]) for name in self._used}
        parts = [self.texts[0]]
        for name, text in zip(self.names, self.texts[1:], strict=True):
            parts += escaped[name].encode("utf-8", "replace"), text
        return b"".join(parts)


def page_template(name: str, language: str, data: bytes) -> PageTemplate:
    """The template in a file of this name. Raises BadTemplate."""
    text = _text_of(data)
    texts: list[str] = []
    names: list[str] = []
    faults: list[TemplateFault] = []
    at, pending = 0, ""
    for match in _placeholders(text):
        pending += text[at : match.start()]
        at = match.end()
        if match["dollar"]:
            pending += "$"
            continue
        fault = _fault_in(text, match) or _too_many(len(names))
        if fault:
            faults.append(TemplateFault(*_position(text, match.start()), fault))
            if len(faults) == MOST_FAULTS:
                break
            continue
        texts.append(pending)
        names.append(match["bare"] or match["braced"])
        pending = ""
    faults += _in_raw_text(text)[: MOST_FAULTS - len(faults)]
    if faults:
        raise BadTemplate(sorted(faults))
    texts.append(pending + text[at:])
    return PageTemplate(name, language, [part.encode() for part in texts], names)


def _text_of(data: bytes) -> str:
    if len(data) > MOST_TEMPLATE_BYTES:
        raise BadTemplate([TemplateFault(1, 1, f"is larger than {MOST_TEMPLATE_BYTES >> 10} KiB")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        raise BadTemplate([TemplateFault(*_position(before, len(before)), "is not UTF-8")]) from error
    if not text.strip():
        raise BadTemplate([TemplateFault(1, 1, "is empty")])
    return text


def _position(text: str, at: int) -> tuple[int, int]:
    """Line and column, from 1."""
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _raw_parts(text: str) -> Iterator[tuple[int, int]]:
    """Where the text of scripts and styles begins and ends. Their start tags are HTML."""
    for match in _RAW.finditer(text):
        begin = text.find(">", match.start(), match.end())
        if begin >= 0:
            yield begin, match.end()


def _placeholders(text: str) -> Iterator[re.Match[str]]:
    """All placeholders outside scripts and styles."""
    at = 0
    for begin, end in (*_raw_parts(text), (len(text), len(text))):
        yield from _PLACEHOLDER.finditer(text, at, begin)
        at = end


def _fault_in(text: str, match: re.Match[str]) -> str:
    if match["open"]:
        return "${ without a name and }; a dollar sign before { is written $$"
    name = match["bare"] or match["braced"]
    if name not in NAMES:
        near = nearest_names(name, NAMES, 1)
        hint = f"did you mean ${near[0]}?" if near else f"a dollar sign before letters is written $${name}"
        return f"unknown name ${name}: {hint}"
    if _IN_HANDLER.search(text, max(0, match.start() - _TAG_BYTES), match.start()):
        return f"${name} in an event handler: values are escaped for HTML only; put it into a data- attribute"
    return ""


def _too_many(count: int) -> str:
    return f"more than {MOST_PLACEHOLDERS} placeholders" if count >= MOST_PLACEHOLDERS else ""


def _in_raw_text(text: str) -> list[TemplateFault]:
    """Placeholders in scripts and styles, where nothing is put in."""
    words = "in a script or style, where no value is put in: put it into a data- attribute"
    found = (
        match
        for begin, end in _raw_parts(text)
        for match in _PLACEHOLDER.finditer(text, begin, end)
        if (match["bare"] or match["braced"]) in NAMES
    )
    return [
        TemplateFault(*_position(text, match.start()), f"{match[0]} {words}")
        for match in islice(found, MOST_FAULTS)
    ]
