"""The built-in page."""

import re

import pytest

from edge.rules.http.local_reply import LocalReplies
from edge.rules.outcomes import Cause
from edge.rules.pages.default_page import BUILT_IN, DEFAULT_PAGE, built_in_page
from edge.rules.pages.page_template import NAMES
from edge.rules.pages.translations.known_translations import TRANSLATIONS


def test_it_says_what_a_visitor_can_tell_the_operator() -> None:
    used = set(re.findall(r"\$(\w+)", DEFAULT_PAGE))
    assert used == NAMES.keys() - {"site", "retry_after"}
    assert used >= {"hostname", "reason", "request_id"}


def test_it_is_small_complete_and_for_light_and_dark() -> None:
    page = LocalReplies().error(Cause.REFUSED, accept=b"text/html", host="a.test", request_id="r").body.decode()
    assert len(page) < 2500
    assert not re.search(r"(src|href|url|@import|http)", page)
    assert "prefers-color-scheme: dark" in page
    assert '<html lang="en">' in page


def test_it_is_there_in_each_language_with_no_label_left_over() -> None:
    assert BUILT_IN.keys() == TRANSLATIONS.keys()
    for language, page in BUILT_IN.items():
        assert page.language == language
        assert b"@" not in b"".join(page.texts).replace(b"@media", b"")


@pytest.mark.parametrize(("field", "language"), [(b"de-CH;q=0.4, it;q=0.5", "it"), (b"xx", "en"), (b"", "en")])
def test_the_language_is_that_of_the_client(field: bytes, language: str) -> None:
    assert built_in_page(field) is BUILT_IN[language]
