"""The built-in page: for light and dark screens, complete in itself, and readable by screen readers."""

from collections.abc import Mapping
from typing import Final

from edge.rules.pages.accept_language import look_up, preferred_languages
from edge.rules.pages.page_template import PageTemplate, page_template
from edge.rules.pages.template_files import DEFAULT_LANGUAGE
from edge.rules.pages.translations.known_translations import TRANSLATIONS
from edge.rules.pages.translations.translation import Translation

DEFAULT_PAGE: Final = """<!doctype html>
<html lang="$language">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<title>$status $title</title>
<style>
:root { --page: #f6f7f9; --card: #fff; --text: #1c2330; --soft: #626c7c; --line: #e1e5ea; --mark: #3658d4 }
@media (prefers-color-scheme: dark) {
  :root { --page: #12151b; --card: #1a1f28; --text: #e8ebf0; --soft: #99a3b3; --line: #2b323e; --mark: #8ba4ff }
}
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--page);
  color: var(--text); font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif }
main { width: 100%; max-width: 33rem; padding: 2.5rem; background: var(--card); border: 1px solid var(--line);
  border-top: 4px solid var(--mark); border-radius: .75rem; box-shadow: 0 1rem 2.5rem -1.5rem rgb(0 0 0 / .25) }
h1 { margin: 0 0 .75rem; font-size: 1.5rem; line-height: 1.25; letter-spacing: -.01em }
h1 span { display: block; margin-bottom: .25rem; color: var(--mark); font-size: 3.5rem; line-height: 1;
  font-variant-numeric: tabular-nums }
p { margin: 0; font-size: 1.0625rem }
dl { display: grid; grid-template-columns: auto 1fr; gap: .125rem 1rem; margin: 2rem 0 0; padding-top: 1.25rem;
  border-top: 1px solid var(--line); color: var(--soft); font-size: .8125rem }
dd { margin: 0; font-family: ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere }
@media (max-width: 30rem) { main { padding: 1.75rem 1.5rem } }
</style>
</head>
<body>
<main>
<h1><span>$status</span>$title</h1>
<p>$message</p>
<dl>
<dt>@SITE@</dt><dd>$hostname</dd>
<dt>@REASON@</dt><dd>$reason</dd>
<dt>@REQUEST@</dt><dd>$request_id</dd>
</dl>
</main>
</body>
</html>
"""
"`@LABEL@` is a label of the translation."


def _page_in(words: Translation) -> PageTemplate:
    text = DEFAULT_PAGE
    for label, translated in words.labels.items():
        text = text.replace(f"@{label.upper()}@", translated)
    return page_template("", words.language, text.encode())


BUILT_IN: Final[Mapping[str, PageTemplate]] = {words.language: _page_in(words) for words in TRANSLATIONS.values()}
"Used when a directory has no template for a reply, by language."


def built_in_page(accept_language: bytes) -> PageTemplate:
    """The built-in page in the language that the client prefers; in English if there is none of its languages.
    `accept_language`: the value of the request's field."""
    languages = preferred_languages(accept_language) if accept_language else ()
    return BUILT_IN[look_up(languages, BUILT_IN) or DEFAULT_LANGUAGE]
