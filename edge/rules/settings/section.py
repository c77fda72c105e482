"""What every section of the configuration is made of: strict fields, marked hot or cold, checked as a whole."""

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
    """What a reload does when a setting has changed."""

    SWAP = "swap"
    "The processes that serve use the new value at once; connections, routes and all that was learned stay."
    REPLACE = "replace"
    "New workers are started with the new value, and the old ones drain."


Hot = Annotated[T, OnReload.SWAP]
"A setting whose new value is used at once; `tests/run/test_hot_settings.py` shows that each one reaches its user."
Cold = Annotated[T, OnReload.REPLACE]
"A setting that holds for the whole life of a worker."


def contradictory(faults: list[tuple[str, str]]) -> PydanticCustomError:
    """An error about several settings at once: (name, words) of each one that is wrong."""
    words = "; ".join(f"{name} {said}" for name, said in faults)
    return PydanticCustomError("contradictory", "{words}", {"words": words, "faults": faults})


class Section(BaseModel):
    """What all sections have in common: strict, frozen, no unknown names, checked as a whole."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True)

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
        """Settings, each fine alone, that cannot hold together: the name of one, and why."""
        yield from ()

    def exceeds(self, name: str, bound: "Section", bound_name: str) -> bool:
        """Whether a value that was given is larger than one that bounds it. A default gives way without a word: who
        lowers a bound need not know all that it holds."""
        return name in self.model_fields_set and getattr(self, name) > getattr(bound, bound_name)

    def exceeding(self, bound: str, words: str, *names: str) -> Iterator[tuple[str, str]]:
        """Those of these settings that exceed the one that bounds them, each with the same words."""
        yield from ((name, words) for name in names if self.exceeds(name, self, bound))


def section_of(annotation: object) -> type[Section] | None:
    """The section a field holds, by itself or as a tuple of them; None for a plain value."""
    inner = [annotation, *get_args(annotation)]
    return next((kind for kind in inner if isinstance(kind, type) and issubclass(kind, Section)), None)


def unit_of(field: FieldInfo) -> Unit | None:
    """How the numbers of this field are written; None for a field that holds no number."""
    return next((mark for mark in field.metadata if isinstance(mark, Unit)), None)


def reload_of(field: FieldInfo) -> OnReload:
    """What a reload does when this field has changed. Raises ValueError for a field without a mark."""
    marks = [mark for mark in field.metadata if isinstance(mark, OnReload)]
    if len(marks) != 1:
        raise ValueError("a setting must be marked Hot or Cold, once")
    return marks[0]


def fields_of(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """All settings of a section and of the sections in it, each with its path, such as `timeouts.head`. A list of
    sections, such as `listeners`, is one setting."""
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        if inner is None or get_origin(field.annotation) is tuple:
            yield f"{prefix}{name}", field
        else:
            yield from fields_of(inner, f"{prefix}{name}.")
