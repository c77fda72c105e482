"""`Accept-Language`: what clients prefer, and what they may not cost."""

import pytest

from edge.rules.pages import accept_language
from edge.rules.pages.accept_language import MOST_BYTES, MOST_CACHED, MOST_RANGES, look_up, preferred_languages


@pytest.mark.parametrize(
    ("field", "languages"),
    [
        (b"", []),
        (b"de", ["de"]),
        (b"de-AT, EN;q=0.5", ["de-at", "en"]),
        (b"en;q=0.5,de;q=0.8,fr", ["fr", "de", "en"]),
        (b"en,de", ["en", "de"]),
        (b"de ; q=0.3 , en\t;\tQ=0.4", ["en", "de"]),
        (b"*", []),
        (b"*;q=0.1, da", ["da"]),
        (b"de;q=0, en;q=0.000, fr", ["fr"]),
        (b"de;q=1.5, en;q=0.9", ["de", "en"]),
        (b"zh-Hant-CN-x-private1-private2", ["zh-hant-cn-x-private1-private2"]),
        pytest.param(b"de;q=2, en;q=nan, fr;q=-1, it;q=1e3, es;q=0.1234, pt;level=1, da", ["da"], id="odd q"),
        pytest.param(b"../etc, de_DE, <b>, d\xe4, toolonglanguage, , ;, ;q=1, da", ["da"], id="no languages"),
    ],
)
def test_languages_in_the_order_of_preference(field: bytes, languages: list[str]) -> None:
    assert preferred_languages(field) == tuple(languages)


def test_only_the_beginning_is_read() -> None:
    assert len(preferred_languages(b",".join([b"de"] * 5000))) == MOST_RANGES
    assert preferred_languages(b" " * MOST_BYTES + b"de") == ()
    assert preferred_languages(b"-".join([b"a"] * 20_000)) == ()


def test_few_fields_are_remembered_and_none_longer_than_what_is_read() -> None:
    for n in range(2 * MOST_CACHED):
        preferred_languages(b"de;q=0.%d," % n + b"x" * 2 * MOST_BYTES)
    cache = accept_language._parsed.cache_info()
    assert (cache.currsize, cache.maxsize) == (MOST_CACHED, MOST_CACHED)
    hits = cache.hits
    preferred_languages(b"da".ljust(MOST_BYTES))
    preferred_languages(b"da".ljust(MOST_BYTES) + b", en")
    assert accept_language._parsed.cache_info().hits == hits + 1


@pytest.mark.parametrize(
    ("ranges", "found"),
    [
        (["de"], "de"),
        (["de-at"], "de"),
        (["fr", "de-at-1996"], "de"),
        (["pt-br", "de"], "pt-br"),
        (["pt"], None),
        (["zh-hant-cn-x-private1-private2"], "zh-hant"),
        (["zh-x-hant"], None),
        (["en"], None),
        ([], None),
    ],
)
def test_look_up_shortens_the_range_never_the_tag(ranges: list[str], found: str | None) -> None:
    assert look_up(ranges, {"de", "pt-br", "zh-hant"}) == found


def test_a_single_character_goes_with_what_it_begins() -> None:
    assert look_up(["zh-x-private"], {"zh-x"}) is None  # RFC 4647, section 3.4
    assert look_up(["zh-x-private"], {"zh"}) == "zh"
