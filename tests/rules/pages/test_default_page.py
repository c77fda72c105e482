"""The built-in page."""

import re

from edge.rules.http.local_reply import LocalReplies
from edge.rules.outcomes import Cause
from edge.rules.pages.default_page import BUILT_IN, DEFAULT_PAGE
from edge.rules.pages.page_template import NAMES


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
    assert BUILT_IN.language == "en"
