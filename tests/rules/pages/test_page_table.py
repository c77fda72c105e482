"""Which template a reply gets."""

import pytest

from edge.rules.pages.page_table import NO_PAGES, PageTable
from edge.rules.pages.template_files import usable_pages

ALL = [
    *("maintenance", "503", "5xx", "error", "404", "error.de", "maintenance.fr"),
    *("sites/shop/503", "sites/shop/error", "sites/shop/maintenance.de", "sites/blog/4xx"),
]


def table(*names: str) -> PageTable:
    return PageTable(usable_pages((f"{name}.html", b"x") for name in names))


def name(pages: PageTable, reason: str, status: int, site: str = "", languages: bytes = b"") -> str:
    template = pages.find(reason, status, site=site, accept_language=languages)
    return "built in" if template is None else template.name.removesuffix(".html")


@pytest.mark.parametrize(
    ("reason", "status", "site", "languages", "used"),
    [
        ("maintenance", 503, "", b"", "maintenance"),
        ("drained", 503, "", b"", "503"),
        ("bad_answer", 502, "", b"", "5xx"),
        ("bad_request", 400, "", b"", "error"),
        ("unknown_host", 404, "", b"", "404"),
        ("maintenance", 503, "shop", b"", "sites/shop/503"),
        ("maintenance", 503, "shop", b"de", "sites/shop/maintenance.de"),
        ("maintenance", 503, "shop", b"fr", "sites/shop/503"),
        ("bad_request", 400, "shop", b"de", "sites/shop/error"),
        ("bad_request", 400, "blog", b"", "sites/blog/4xx"),
        ("maintenance", 503, "blog", b"fr-CA", "maintenance.fr"),
        ("bad_request", 400, "", b"da, de;q=0.5", "error.de"),
        ("bad_request", 400, "", b"en, de;q=0.5", "error"),
        ("bad_request", 400, "", b"de;q=0", "error"),
        ("maintenance", 503, "../shop", b"", "maintenance"),
        ("maintenance", 503, "sites/shop", b"", "maintenance"),
    ],
)
def test_from_the_nearest_to_the_furthest(reason: str, status: int, site: str, languages: bytes, used: str) -> None:
    assert name(table(*ALL), reason, status, site, languages) == used


def test_without_a_fitting_template_the_page_is_the_built_in_one() -> None:
    assert name(NO_PAGES, "maintenance", 503, "shop", b"de") == "built in"
    assert name(table("4xx", "error.de"), "maintenance", 503, "", b"fr") == "built in"
    assert name(table("4xx", "error.de"), "maintenance", 503, "", b"fr, de") == "error.de"


def test_a_language_in_the_name_comes_before_that_of_a_default() -> None:
    pages = PageTable(
        usable_pages([("404.html", b'<html lang="de">'), ("404.de.html", b"x"), ("404.fr.html", b"x")])
    )
    assert name(pages, "unknown_host", 404, "", b"de") == "404.de"
    assert name(pages, "unknown_host", 404, "", b"it") == "404"


def test_what_there_is() -> None:
    pages = table(*ALL)
    assert (pages.count, pages.sites, pages.languages) == (len(ALL), ("blog", "shop"), ("de", "en", "fr"))
    assert (NO_PAGES.count, NO_PAGES.sites, NO_PAGES.languages) == (0, (), ())
