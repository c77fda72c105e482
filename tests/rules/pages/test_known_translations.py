"""The words of the built-in pages: each language has all of them, and each in its own words."""

from html import escape

import pytest

from edge.rules.outcomes import VERDICTS
from edge.rules.pages.template_files import REASONS, STATUSES
from edge.rules.pages.translations.english import ENGLISH
from edge.rules.pages.translations.known_translations import TRANSLATIONS, translation_for
from edge.rules.pages.translations.translation import Translation

EACH = pytest.mark.parametrize("words", TRANSLATIONS.values(), ids=TRANSLATIONS)
LONGEST = 160
"Characters of a sentence: three lines on a telephone."


def test_english_has_a_sentence_for_each_reason() -> None:
    reasons = {verdict.reason for verdict in VERDICTS.values()} - {"", "client_gone"}
    assert ENGLISH.sentences.keys() == reasons == set(REASONS)


@EACH
def test_no_word_is_missing(words: Translation) -> None:
    assert words.sentences.keys() == ENGLISH.sentences.keys()
    assert words.labels.keys() == ENGLISH.labels.keys()
    assert {str(status) for status in words.titles} >= set(STATUSES)


@EACH
def test_they_are_sentences_and_fit_into_a_page_as_they_are(words: Translation) -> None:
    for sentence in words.sentences.values():
        assert sentence.endswith(".")
        assert sentence[0].isupper()
        assert "  " not in sentence
        assert len(sentence) <= LONGEST
    for text in (*words.sentences.values(), *words.titles.values(), *words.labels.values()):
        assert text == text.strip()
        assert escape(text, quote=False) == text


@EACH
def test_no_sentence_is_left_untranslated_or_there_twice(words: Translation) -> None:
    assert len(set(words.sentences.values())) == len(words.sentences)
    if words is not ENGLISH:
        assert not set(words.sentences.values()) & set(ENGLISH.sentences.values())
        assert not set(words.titles.values()) & set(ENGLISH.titles.values())


@pytest.mark.parametrize(
    ("language", "found"), [("de", "de"), ("de-AT", "de"), ("PT-br", "pt"), ("ja", "en"), ("en-GB", "en")]
)
def test_the_words_for_a_page(language: str, found: str) -> None:
    assert translation_for(language) is TRANSLATIONS[found]
