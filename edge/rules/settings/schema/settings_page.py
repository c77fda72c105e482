"""Generates docs/settings.md: the settings as a page, a table for each section, from the classes of the sections.

    python -m edge.rules.settings.schema.settings_page > docs/settings.md

config/styx.yaml has the same as a file that can be read by `styx serve`. A test checks that the page is up to date.
"""

from collections.abc import Iterator
from typing import get_origin

from pydantic.fields import FieldInfo

from edge.rules.settings.reference import written_default
from edge.rules.settings.root import Settings
from edge.rules.settings.schema.documentation import documentation_of
from edge.rules.settings.section import OnReload, Section, reload_of, section_of

INTRODUCTION = """\
# Settings

Every setting of styx. Only `listeners` and `core_api` are required. The configuration is a YAML file: `styx init`
writes a first one, `styx check -c FILE` reports all faults of one at once, `styx config show` prints what is in
force.

Durations are written `250ms`, `5s`, `10m`, `1h`, `1d`, and sizes `512B`, `64KiB`, `1MiB`, `1GiB`; both need a
unit, except 0. `${NAME}` in a value is replaced by the environment variable NAME, `${NAME:-text}` by text when
NAME is unset or empty, and `$${` by a plain `${`. Unknown names, and names given twice, are errors.

*At a reload*: a **hot** setting takes effect in the running processes, a **cold** one by new workers, which are
ready before the old ones finish their requests ([more](operating.md#reload-upgrade-restart)).

Made from the classes in `edge/rules/settings/` by `python -m edge.rules.settings.schema.settings_page >
docs/settings.md`.
"""
HEAD = "| setting | default | at a reload | meaning |\n|---|---|---|---|\n"
WORDS = {OnReload.SWAP: "hot", OnReload.REPLACE: "cold"}


def render() -> str:
    """The text of docs/settings.md."""
    single, sections = "", ""
    for name, field in Settings.model_fields.items():
        section = section_of(field.annotation)
        if section is None:
            single += _row(name, field, documentation_of(Settings)[name], reload_of(field))
            continue
        is_list = get_origin(field.annotation) is tuple
        mark = reload_of(field) if is_list else None
        sections += f"\n## {name}\n\n{_text(section.__doc__ or '')}\n\n{HEAD}"
        sections += "".join(_rows(section, f"{name}[]." if is_list else f"{name}.", mark))
    return f"{INTRODUCTION}\n## Without a section\n\n{HEAD}{single}{sections}"


def _rows(section: type[Section], prefix: str, mark: OnReload | None) -> Iterator[str]:
    """`mark`: of the list that the section is an item of; None = each setting has its own."""
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        if inner is None:
            yield _row(prefix + name, field, documentation_of(section)[name], mark or reload_of(field))
        else:
            yield from _rows(inner, f"{prefix}{name}.", mark)


def _row(name: str, field: FieldInfo, meaning: str, mark: OnReload) -> str:
    default = "required, such as " if field.is_required() else ""
    return f"| `{name}` | {default}`{_cell(written_default(field))}` | {WORDS[mark]} | {_text(meaning)} |\n"


def _text(text: str) -> str:
    """Plain text as Markdown."""
    cell = _cell(text)
    # Only outside of `code`, which is every other part.
    parts = cell.split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("*", "\\*") for part in parts[::2]]
    return "`".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(render(), end="")
