"""Examples of all pages, and their index."""

import re

from edge.rules.outcomes import VERDICTS, Cause
from edge.rules.pages.page_preview import (
    EXAMPLES,
    languages_of,
    preview_index,
    previewed_page,
    previewed_pages,
)
from edge.rules.pages.page_table import NO_PAGES, PageTable
from edge.rules.pages.template_files import REASONS, usable_pages
from edge.rules.pages.translations.english import ENGLISH
from edge.rules.pages.translations.known_translations import TRANSLATIONS

FILES = [("404.de.html", b"deutsch"), ("sites/a b&c/error.html", b"$site $reason")]
PAGES = PageTable(usable_pages(FILES))


def test_there_is_an_example_of_each_reason_and_status() -> None:
    assert {reason for reason, _ in EXAMPLES} == set(REASONS)
    assert {400, 501, 505} == {status for reason, status in EXAMPLES if reason == "bad_request"}
    assert all((VERDICTS[cause].reason, VERDICTS[cause].status) == key for key, cause in EXAMPLES.items())


def test_one_page() -> None:
    page = previewed_page(PAGES, Cause.UNKNOWN_HOST, "", "de-AT, en;q=0.5")
    assert (page.template, page.body) == ("404.de.html", b"deutsch")
    built_in = previewed_page(NO_PAGES, Cause.UNKNOWN_HOST, "", "ä")
    assert built_in.template == "built in"
    assert ENGLISH.sentences["unknown_host"] in built_in.body.decode()


def test_all_pages_are_in_the_index_under_names_that_are_unique() -> None:
    shown = list(previewed_pages(PAGES, ["", "a b&c"], ("de", "en")))
    assert len(shown) == 2 * 2 * len(EXAMPLES) == len({page.path for page in shown})
    assert shown[0].path.startswith("common/de/400-")
    index = preview_index(shown, "/etc/<pages>")
    assert "/etc/&lt;pages&gt;" in index
    assert len(re.findall(r'<iframe src="sites/a%20b%26c/en/', index)) == len(EXAMPLES)
    assert "Site a b&amp;c" in index
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", index)


def test_previews_are_in_all_languages_that_there_are() -> None:
    pages = PageTable(usable_pages([("404.ja.html", b"x")]))
    assert set(languages_of(pages)) == {"ja", *TRANSLATIONS}
    built_in = previewed_page(pages, Cause.MAINTENANCE, "", "pl")
    assert TRANSLATIONS["pl"].sentences["maintenance"] in built_in.body.decode()
