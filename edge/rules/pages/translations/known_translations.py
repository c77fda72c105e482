"""All languages of the built-in error pages. Another one is a module beside this one, and a line in here."""

from collections.abc import Mapping
from typing import Final

from edge.rules.pages.accept_language import look_up
from edge.rules.pages.translations.dutch import DUTCH
from edge.rules.pages.translations.english import ENGLISH
from edge.rules.pages.translations.french import FRENCH
from edge.rules.pages.translations.german import GERMAN
from edge.rules.pages.translations.italian import ITALIAN
from edge.rules.pages.translations.polish import POLISH
from edge.rules.pages.translations.portuguese import PORTUGUESE
from edge.rules.pages.translations.spanish import SPANISH
from edge.rules.pages.translations.translation import Translation

TRANSLATIONS: Final[Mapping[str, Translation]] = {
    one.language: one for one in (ENGLISH, GERMAN, FRENCH, SPANISH, ITALIAN, DUTCH, PORTUGUESE, POLISH)
}
"By language tag, in lower case."


def translation_for(language: str) -> Translation:
    """The words for a page in this language (a tag, in any case): `de-AT` has those of `de`. English if there are
    none in this language."""
    found = look_up((language.lower(),), TRANSLATIONS)
    return ENGLISH if found is None else TRANSLATIONS[found]
