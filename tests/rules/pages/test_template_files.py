"""Files of error pages: their names, their bounds, and what stays in use where one has a fault."""

import msgspec
import pytest

from edge.rules.outcomes import VERDICTS
from edge.rules.pages import template_files
from edge.rules.pages.page_records import PageRecord
from edge.rules.pages.page_template import MOST_TEMPLATE_BYTES, BadTemplate
from edge.rules.pages.template_files import (
    KINDS,
    MOST_BYTES,
    MOST_TEMPLATES,
    REASONS,
    PagesState,
    checked_pages,
    found_page,
    page_key,
    page_of,
    record_of,
    usable_pages,
)
from edge.rules.pages.translations.english import ENGLISH


def test_there_is_a_kind_for_each_reply_that_somebody_receives() -> None:
    assert set(REASONS) == ENGLISH.sentences.keys()
    statuses = {str(v.status) for v in VERDICTS.values() if v.reason and v.status != 499}
    assert {*ENGLISH.sentences, *statuses, "4xx", "5xx", "error"} == KINDS


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("maintenance.html", ("", "maintenance", "")),
        ("404.html", ("", "404", "")),
        ("5xx.pt-BR.html", ("", "5xx", "pt-br")),
        ("sites/shop/error.de.html", ("shop", "error", "de")),
        ("sites/Ein Laden, überall/error.html", ("Ein Laden, überall", "error", "")),
        ("sites/404.html/error.html", ("404.html", "error", "")),
    ],
)
def test_names(name: str, key: tuple[str, str, str]) -> None:
    assert page_key(name) == key


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unknown_hots.html", "unknown_hots is no reason or status of styx: did you mean unknown_host?"),
        ("index.html", "index is no reason or status of styx"),
        ("200.html", "200 is no reason or status of styx"),
        ("client_gone.html", "client_gone is no reason or status of styx"),
        ("404.d_e.html", "d_e is no language tag, such as de or pt-BR"),
        ("404.de.at.html", "de.at is no language tag, such as de or pt-BR"),
        (f"sites/{'x' * 256}/404.html", "the folder has no name of a site"),
        ("sites/a\nb/404.html", "the folder has no name of a site"),
    ],
)
def test_other_names_are_faults(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.split(":")[0].replace("(", ".")) as caught:
        page_key(name)
    assert str(caught.value).startswith(words)
    [fault] = checked_pages({name: b"x"}, {}).faults
    assert fault.text("/etc/pages").startswith(f"/etc/pages/{name}:1:1: {words}")


@pytest.mark.parametrize(
    ("name", "text", "language", "is_default"),
    [
        ("404.html", "<p>", "en", True),
        ("404.html", "<!doctype html><HTML class=x lang='de-AT'>", "de-AT", True),
        ("404.html", "<html lang=fr>", "fr", True),
        ("404.html", '<html lang="$language">', "en", True),
        ("404.html", " " * 5000 + '<html lang="de">', "en", True),
        ("404.pt-BR.html", '<html lang="de">', "pt-BR", False),
    ],
)
def test_the_language_of_a_template(name: str, text: str, language: str, *, is_default: bool) -> None:
    page = found_page(name, text.encode())
    assert (page.template.language, page.key.language, page.is_default) == (language, language.lower(), is_default)


def test_a_fault_leaves_what_was_there_before() -> None:
    first = checked_pages({"404.html": b"old", "error.html": b"error"}, {})
    assert first == ({"404.html": b"old", "error.html": b"error"}, [])
    for bad in (b"$nothing", b"", b"\xff", b"x" * (MOST_TEMPLATE_BYTES + 1), "Permission denied"):
        second = checked_pages({"404.html": bad, "error.html": b"new", "5xx.html": bad}, first.files)
        assert second.files == {"404.html": b"old", "error.html": b"new"}
        assert {fault.name for fault in second.faults} == {"404.html", "5xx.html"}
    assert second.faults[0].text("/d") == "/d/404.html:1:1: Permission denied"
    assert checked_pages({"error.html": b"new"}, second.files) == ({"error.html": b"new"}, []), (
        "what is gone is gone"
    )


def test_two_templates_for_the_same() -> None:
    checked = checked_pages({"404.DE.html": b"a", "404.de.html": b"b", "404.html": b"c"}, {})
    assert list(checked.files) == ["404.DE.html", "404.html"]
    assert [(f.name, f.fault.words) for f in checked.faults] == [
        ("404.de.html", "is for the same replies as 404.DE.html")
    ]


def test_there_are_only_so_many_and_common_ones_come_first() -> None:
    found = {f"sites/{n}/404.html": b"x" for n in range(MOST_TEMPLATES)}
    checked = checked_pages({**found, "error.html": b"x"}, {})
    assert len(checked.files) == MOST_TEMPLATES
    assert "error.html" in checked.files
    assert [fault.fault.words for fault in checked.faults] == [
        "there are 1000 templates already, and no more are used"
    ]


def test_all_together_have_only_so_many_bytes() -> None:
    fits = MOST_BYTES // MOST_TEMPLATE_BYTES
    found = {f"sites/{n:03}/404.html": b"x" * MOST_TEMPLATE_BYTES for n in range(fits + 1)}
    checked = checked_pages(found, {})
    assert sum(map(len, checked.files.values())) == MOST_BYTES
    assert [(f.name, f.fault.words) for f in checked.faults] == [
        (f"sites/{fits:03}/404.html", "all templates together are larger than 4 MiB")
    ]


def test_a_worker_leaves_out_what_it_cannot_use() -> None:
    [page] = usable_pages([("404.html", b"$nothing"), ("nonsense.html", b"x"), ("error.html", b"x")])
    assert page.key == ("", "error", "en")
    with pytest.raises(BadTemplate):
        found_page("404.html", b"$nothing")


def test_a_page_is_the_same_from_its_record() -> None:
    pages = usable_pages([("404.html", b"a $site b $$ $reason"), ("sites/shop/error.pt-BR.html", b"x")])
    assert len(pages) == 2
    for page in pages:
        record = msgspec.msgpack.decode(msgspec.msgpack.encode(record_of(page)), type=PageRecord)
        again = page_of(record)
        assert (again.key, again.is_default) == (page.key, page.is_default)
        values = {"site": "<shop>", "reason": "r"}
        assert again.template.rendered(values) == page.template.rendered(values)
        assert (again.template.name, again.template.language) == (page.template.name, page.template.language)


def test_the_state_begins_again_with_another_directory() -> None:
    state = PagesState()
    assert not state.is_used
    state.templates, state.faults, state.is_readable = 3, 2, False
    state.reset(is_used=True)
    assert (state.is_used, state.is_readable, state.templates, state.faults) == (True, True, 0, 0)
    assert template_files.ERROR in KINDS
