"""The effective settings: each with its value as it is written in a file, and where the value comes from. Pure.

A value that was filled in from an environment variable whose name is that of a secret is hidden. Other secrets
cannot be in a configuration: settings name the files that hold them.
"""

import json
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from pydantic.fields import FieldInfo

from edge.rules.settings.file import Origins, origins_in
from edge.rules.settings.root import Settings
from edge.rules.settings.section import OnReload, Section, reload_of, unit_of

SECRET_NAME: Final = re.compile(r"token|secret|passw|credential|(^|_)key($|_)", re.IGNORECASE)
HIDDEN: Final = "(hidden)"


class EffectiveSetting(NamedTuple):
    """One setting."""

    path: str
    value: str
    "As it is written in a file; `HIDDEN` for a secret."
    source: str
    "`default`, `file`, or `environment`: filled in from the variables of the environment that the file names."
    place: str
    "Where it is given, as `file:line:column`; empty for a default."
    variables: tuple[str, ...]
    "The environment variables that the file names for it."
    hot: bool
    "Whether a reload applies a new value without new workers."


def effective_settings(settings: Settings, text: str, *, name: str) -> list[EffectiveSetting]:
    """All settings, in the order of config/styx.yaml. `text`: what they were parsed from, of the file `name`."""
    return list(_rows(settings, "", origins_in(text), name, hot=None))


def _rows(
    section: Section, prefix: str, origins: Origins, name: str, hot: bool | None
) -> Iterator[EffectiveSetting]:
    for setting, field in type(section).model_fields.items():
        value, path = getattr(section, setting), f"{prefix}{setting}"
        if isinstance(value, Section):
            yield from _rows(value, f"{path}.", origins, name, hot)
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            of_list = reload_of(field) is OnReload.SWAP
            for number, item in enumerate(value):
                yield from _rows(item, f"{path}.{number}.", origins, name, of_list)
        else:
            is_hot = reload_of(field) is OnReload.SWAP if hot is None else hot
            yield _row(path, written(field, value), origins, name, hot=is_hot)


def _row(path: str, value: str, origins: Origins, name: str, *, hot: bool) -> EffectiveSetting:
    position = origins.position(path)
    if position is None:
        return EffectiveSetting(path, value, "default", "", (), hot)
    variables = origins.variables(path)
    shown = HIDDEN if any(SECRET_NAME.search(variable) for variable in variables) else value
    source = "environment" if variables else "file"
    return EffectiveSetting(path, shown, source, f"{name}:{position.line}:{position.column}", variables, hot)


def written(field: FieldInfo, value: object) -> str:
    """A value as it is written in a file."""
    if value == field.default:
        value = field.default  # 0 is equal to false, which is how it is written
    unit = unit_of(field)
    if unit is not None and isinstance(value, int | float) and not isinstance(value, bool):
        return unit.text(value)
    if isinstance(value, tuple):
        return f"[{', '.join(json.dumps(str(item), ensure_ascii=False) for item in value)}]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return json.dumps(str(value), ensure_ascii=False)
