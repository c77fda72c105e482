"""Generates config/styx.schema.json: the JSON Schema of a configuration, for editors, from its classes.

    styx schema > config/styx.schema.json

It says which settings there are, how they are written, and what they mean. It cannot say all that `styx check`
does: bounds of durations and sizes, settings that contradict each other, files that must exist. What it rejects,
styx rejects; the former names of renamed settings are the exception. Draft 7 is what editors understand best. Pure.
"""

import inspect
import json
from typing import Any, Final, Literal, get_args, get_origin

import annotated_types
import yaml
from pydantic import WithJsonSchema
from pydantic.fields import FieldInfo

from edge.rules.settings.reference import written_default
from edge.rules.settings.root import Settings
from edge.rules.settings.schema.documentation import documentation_of
from edge.rules.settings.section import Section, section_of, unit_of

DRAFT: Final = "http://json-schema.org/draft-07/schema#"
_FROM_ENVIRONMENT: Final[dict[str, Any]] = {"type": "string", "pattern": r"\$\{"}
"A value that is only known when the environment is."


def settings_schema() -> dict[str, Any]:
    """The schema of a whole configuration."""
    return file_schema(Settings, "Configuration of styx")


def file_schema(root: type[Section], title: str) -> dict[str, Any]:
    """The schema of a file whose root is this section."""
    return {"$schema": DRAFT, "title": title, **_section(root), "type": "object"}


def rendered_schema(schema: dict[str, Any] | None = None) -> str:
    """A schema as the text of a file; by default that of the configuration."""
    return json.dumps(schema or settings_schema(), indent=1, ensure_ascii=False) + "\n"


def _section(section: type[Section]) -> dict[str, Any]:
    fields = section.model_fields.items()
    schema: dict[str, Any] = {
        "description": inspect.cleandoc(section.__doc__ or ""),
        # `pool:` with nothing below it is null to YAML, and an empty section to styx.
        "type": ["object", "null"],
        "properties": {name: _setting(section, name, field) for name, field in fields},
        "additionalProperties": False,
    }
    if required := [name for name, field in fields if field.is_required()]:
        schema["required"] = required
        schema["type"] = "object"
    return schema


def _setting(section: type[Section], name: str, field: FieldInfo) -> dict[str, Any]:
    inner = section_of(field.annotation)
    if inner is not None and get_origin(field.annotation) is tuple:
        lengths = _limits(field, ("minItems", "maxItems"))
        return {"type": "array", **lengths, "items": _section(inner)}
    if inner is not None:
        return _section(inner)
    schema = _value(field)
    if text := documentation_of(section).get(name):
        schema["description"] = " ".join(text.split())
    if not field.is_required():
        schema["default"] = yaml.safe_load(written_default(field))
    return schema


def _value(field: FieldInfo) -> dict[str, Any]:
    shapes = _shapes(field.annotation, field.metadata)
    unit, is_list = unit_of(field), get_origin(field.annotation) is tuple
    if unit is None or unit.name in ("count", "ratio", "workers"):
        limits = _limits(field, ("minItems", "maxItems") if is_list else ("minLength", "maxLength"))
        shapes = [{**shape, **limits} for shape in shapes]
    return {"anyOf": [*shapes, _FROM_ENVIRONMENT]}


def _limits(field: FieldInfo, lengths: tuple[str, str]) -> dict[str, Any]:
    """The bounds of a field; `lengths`: what those of its length are called."""
    bounds = (
        (annotated_types.Ge, "minimum", "ge"),
        (annotated_types.Gt, "exclusiveMinimum", "gt"),
        (annotated_types.Le, "maximum", "le"),
        (annotated_types.MinLen, lengths[0], "min_length"),
        (annotated_types.MaxLen, lengths[1], "max_length"),
    )
    return {
        name: getattr(mark, attribute)
        for mark in field.metadata
        for kind, name, attribute in bounds
        if isinstance(mark, kind)
    }


def _shapes(annotation: Any, metadata: list[Any]) -> list[dict[str, Any]]:
    """What may be written for a value of this type: one of these schemas."""
    for mark in metadata:
        if isinstance(mark, WithJsonSchema):
            shape: dict[str, Any] = dict(mark.json_schema or {})
            return list(shape["anyOf"]) if shape.keys() == {"anyOf"} else [shape]
    arguments = get_args(annotation)
    if annotation is str:
        return [{"type": "string"}]
    if annotation is type(None):
        return [{"type": "null"}]
    if hasattr(annotation, "__metadata__"):
        return _shapes(arguments[0], list(annotation.__metadata__))
    if get_origin(annotation) is Literal:
        return [{"enum": list(arguments)}]
    if get_origin(annotation) is tuple:
        return [{"type": "array", "items": {"anyOf": [*_shapes(arguments[0], []), _FROM_ENVIRONMENT]}}]
    if arguments:  # a union
        return [shape for each in arguments for shape in _shapes(each, [])]
    raise TypeError(f"no JSON Schema for {annotation}: add WithJsonSchema to its type")
