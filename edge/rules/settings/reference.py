"""Generates config/styx.yaml: every setting with its default and its description, from the classes of this package.

    python -m edge.rules.settings.reference > config/styx.yaml

Tests check that the file is up to date, and that reading it gives the defaults.
"""

import json
from collections.abc import Iterator
from textwrap import wrap
from typing import get_args, get_origin

from pydantic.fields import FieldInfo

from edge.rules.settings.root import Settings
from edge.rules.settings.schema.documentation import documentation_of
from edge.rules.settings.section import Section, section_of, unit_of
from edge.rules.settings.values import described

WIDTH = 110
MODELINE = "# yaml-language-server: $schema=styx.schema.json"
"Names the schema for editors (`json_schema.py`), by a path from the file that it is in."
INTRODUCTION = """\
Every setting of styx with its default. Only `listeners` and `core_api` are required; all others default to the
value shown here. `styx check -c FILE` reports all faults of a file at once.

Durations: 250ms, 5s, 10m, 1h, 1d. Sizes: 512B, 64KiB, 1MiB, 1GiB. Both need a unit, except 0. ${NAME} in a value is
replaced by the environment variable NAME, ${NAME:-text} by text when NAME is unset or empty, and $${ by a plain ${.
Unknown names and names given twice are errors.
"""


def render() -> str:
    """The whole reference, a valid configuration file."""
    lines = [MODELINE, "#"]
    lines += [line for part in INTRODUCTION.split("\n\n") for line in [*_comment(part, ""), "#"]][:-1]
    for name, field in Settings.model_fields.items():
        lines.append("")
        section = section_of(field.annotation)
        if section is None:
            lines.extend(_setting(Settings, name, field, ""))
        elif get_origin(field.annotation) is tuple:
            lines.extend([*_comment(_about(section), ""), f"{name}:"])
            lines.extend(_as_item(list(_settings(section, "    "))))
        else:
            lines.extend([*_comment(_about(section), ""), f"{name}:", *_settings(section, "  ")])
    return "\n".join(lines) + "\n"


def _about(section: type[Section]) -> str:
    return section.__doc__ or ""


def _settings(section: type[Section], indent: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        if inner is None:
            yield from _setting(section, name, field, indent)
        else:
            yield from [*_comment(_about(inner), indent), f"{indent}{name}:", *_settings(inner, indent + "  ")]


def _setting(section: type[Section], name: str, field: FieldInfo, indent: str) -> Iterator[str]:
    yield from _comment(documentation_of(section)[name], indent)
    yield f"{indent}{name}: {written_default(field)}"


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in wrap(text, WIDTH - len(indent) - 2, break_on_hyphens=False, break_long_words=False):
        yield f"{indent}# {line}"


def _as_item(lines: list[str]) -> Iterator[str]:
    """The lines of a mapping as the only item of a list: the dash goes before its first setting."""
    first = next(n for n, line in enumerate(lines) if not line.lstrip().startswith("#"))
    for n, line in enumerate(lines):
        if n < first:
            yield line[2:]
        else:
            yield f"  - {line.lstrip()}" if n == first else line


def written_default(field: FieldInfo) -> str:
    """The default, or the example of a required setting, as it is written in a file."""
    value = field.examples[0] if field.is_required() and field.examples else field.default
    unit = unit_of(field)
    if unit is not None:
        return unit.text(value)
    if value is None or isinstance(value, bool):
        return described(value)
    if value == ():
        return "[]"
    # Words of a choice are not quoted; free text is, because an empty one would be invisible.
    text = str(value)
    return text if get_args(field.annotation) else json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    print(render(), end="")
