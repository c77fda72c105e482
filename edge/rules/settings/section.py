"""The base class of all sections of the configuration: strict fields, marked hot or cold, validated as a whole."""

from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from edge.rules.settings.values import Unit

MINUTE, HOUR, DAY = 60, 3600, 86400
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

T = TypeVar("T")


class OnReload(Enum):
    """How a reload applies a changed setting."""

    SWAP = "swap"
    "Running processes use the new value at once; connections, routes and all that was learned stay."
    REPLACE = "replace"
    "New workers are started with the new value, and the old ones drain."


Hot = Annotated[T, OnReload.SWAP]
"A setting that is applied at once; `tests/run/test_hot_settings.py` checks that each reaches the code using it."
Cold = Annotated[T, OnReload.REPLACE]
"A setting that is fixed for the life of a worker."


def contradictory(faults: list[tuple[str, str]]) -> PydanticCustomError:
    """An error about several settings at once: the name of each one that is wrong, and the message for it."""
    words = "; ".join(f"{name} {message}" for name, message in faults)
    return PydanticCustomError("contradictory", "{words}", {"words": words, "faults": faults})


class Section(BaseModel):
    """Base of all sections: strict types, frozen, no unknown names, validated as a whole."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _empty(cls, value: Any) -> Any:
        # `pool:` with every line below it commented out is an empty section, not a mistake.
        return {} if value is None else value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if faults := list(self.contradictions()):
            raise contradictory(faults)
        return self

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Settings that are valid alone but not together: for each contradiction the name of one, and a message."""
        yield from ()

    def exceeds(self, name: str, bound: "Section", bound_name: str) -> bool:
        """Whether a setting that is given in the file is larger than the setting that bounds it. A default is
        lowered silently instead, so that one can lower a bound without knowing all settings below it."""
        return name in self.model_fields_set and getattr(self, name) > getattr(bound, bound_name)

    def exceeding(self, bound: str, words: str, *names: str) -> Iterator[tuple[str, str]]:
        """Those of these settings that exceed the setting `bound`, each with the message `words`."""
        yield from ((name, words) for name in names if self.exceeds(name, self, bound))


def section_of(annotation: object) -> type[Section] | None:
    """The section class of a field that holds a section or a tuple of sections; None for a plain value."""
    inner = [annotation, *get_args(annotation)]
    return next((kind for kind in inner if isinstance(kind, type) and issubclass(kind, Section)), None)


def unit_of(field: FieldInfo) -> Unit | None:
    """The unit in which this field is written; None for a field that is not a number."""
    return next((mark for mark in field.metadata if isinstance(mark, Unit)), None)


def reload_of(field: FieldInfo) -> OnReload:
    """How a reload applies a change of this field. Raises ValueError unless it has exactly one mark."""
    marks = [mark for mark in field.metadata if isinstance(mark, OnReload)]
    if len(marks) != 1:
        raise ValueError("a setting must be marked Hot or Cold, once")
    return marks[0]


def fields_of(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """All settings of a section and of its subsections, each with its path, such as `timeouts.head`. A list of
    sections, such as `listeners`, counts as one setting."""
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        if inner is None or get_origin(field.annotation) is tuple:
            yield f"{prefix}{name}", field
        else:
            yield from fields_of(inner, f"{prefix}{name}.")
