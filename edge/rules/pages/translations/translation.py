"""What the error pages say in one language: the words for a page, and nothing else."""

from collections.abc import Mapping
from typing import NamedTuple


class Translation(NamedTuple):
    """The words of one language."""

    language: str
    "A language tag, in lower case."
    labels: Mapping[str, str]
    "Of what a visitor can tell the operator: `site`, `reason`, `request`."
    titles: Mapping[int, str]
    "The phrase of each status."
    sentences: Mapping[str, str]
    "One sentence for the visitor, by the reason in X-Styx-Error."
