"""Templates: what is put in where, and what is wrong with others, by line and column."""

from html import escape

import pytest

from edge.rules.pages.page_template import (
    MOST_FAULTS,
    MOST_PLACEHOLDERS,
    MOST_TEMPLATE_BYTES,
    NAMES,
    BadTemplate,
    page_template,
)

HANDLER = "in an event handler: values are escaped for HTML only; put it into a data- attribute"
VALUES = {name: f"<{name}>" for name in NAMES if name != "language"}


def rendered(text: str | bytes, **values: str) -> str:
    data = text if isinstance(text, bytes) else text.encode()
    return page_template("404.html", "de", data).rendered({**VALUES, **values}).decode()


def faults_of(text: str | bytes) -> list[tuple[int, int, str]]:
    with pytest.raises(BadTemplate) as caught:
        page_template("404.html", "de", text if isinstance(text, bytes) else text.encode())
    assert all(str(line) in str(caught.value) for line, _, _ in caught.value.faults)
    return [tuple(fault) for fault in caught.value.faults]


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_is_put_in_escaped(name: str) -> None:
    value = "de" if name == "language" else escape(f"<{name}>")
    assert rendered(f"a ${name} b ${{{name}}}c") == f"a {value} b {value}c"


@pytest.mark.parametrize("hostile", ["<script>", "\"'><img src=x>", "a&b", "$reason ${status} $$", "\ud800"])
def test_values_are_never_markup_nor_placeholders(hostile: str) -> None:
    page = rendered('<a title="$hostname">$hostname</a>', hostname=hostile)
    inside = page.removeprefix('<a title="').removesuffix("</a>")
    assert inside == '">'.join([escape(hostile).replace("\ud800", "?")] * 2)


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("$5.00, $ 1, $$, $$status, a$", "$5.00, $ 1, $, $status, a$"),
        ("\ufeffBOM", "BOM"),
        ("größer $status", "größer &lt;status&gt;"),
        ("<script>let a = `${b}`; $('#x'); $c$$</script>$$", "<script>let a = `${b}`; $('#x'); $c$$</script>$"),
        ("<STYLE>a{b:'$x'}</STYLE>", "<STYLE>a{b:'$x'}</STYLE>"),
        ("<script>never closed $x", "<script>never closed $x"),
        ("<!-- $reason -->", "<!-- &lt;reason&gt; -->"),
        ('<script data-a="$reason">$x</script>', '<script data-a="&lt;reason&gt;">$x</script>'),
        ('<b data-on="1" title="one=$reason">', '<b data-on="1" title="one=&lt;reason&gt;">'),
    ],
)
def test_everything_else_stays_as_it_is(text: str, page: str) -> None:
    assert rendered(text) == page


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [(1, 1, "is empty")]),
        (" \n\t", [(1, 1, "is empty")]),
        (b"a\nb\xff", [(2, 2, "is not UTF-8")]),
        ("<p>\n  $hots", [(2, 3, "unknown name $hots: did you mean $hostname?")]),
        ("$qqqqqq", [(1, 1, "unknown name $qqqqqq: a dollar sign before letters is written $$qqqqqq")]),
        ("${status", [(1, 1, "${ without a name and }; a dollar sign before { is written $$")]),
        ("é$Status", [(1, 2, "unknown name $Status: did you mean $status?")]),
        (
            "<script>\nx='$hostname'</script>",
            [(2, 4, "$hostname in a script or style, where no value is put in: put it into a data- attribute")],
        ),
        (
            "<a onclick=\"f('$hostname')\">",
            [(1, 16, f"$hostname {HANDLER}")],
        ),
    ],
)
def test_faults_have_a_place(text: str | bytes, found: list[tuple[int, int, str]]) -> None:
    assert faults_of(text) == found


def test_all_faults_are_found_at_once_up_to_a_bound() -> None:
    assert [fault[:2] for fault in faults_of("$a\n$b<style>$site</style>$c")] == [(1, 1), (2, 1), (2, 10), (2, 23)]
    assert len(faults_of("$nothing\n" * 5000)) == MOST_FAULTS
    assert len(faults_of("<script>" + "$site\n" * 5000)) == MOST_FAULTS


def test_templates_and_pages_are_bounded() -> None:
    whole = b"x" * MOST_TEMPLATE_BYTES
    assert page_template("404.html", "de", whole).size == MOST_TEMPLATE_BYTES
    assert faults_of(whole + b"x") == [(1, 1, "is larger than 128 KiB")]
    many = "$hostname" * MOST_PLACEHOLDERS
    longest = rendered(many, hostname='"' * 255)
    assert len(longest) <= len(many) + (300 << 10)
    assert faults_of(many + "$site")[0][2] == "more than 100 placeholders"
