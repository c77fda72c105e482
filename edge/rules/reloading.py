"""What a new configuration changes, and how far each change reaches. Pure.

Hot settings are swapped in place: routes, connections and all that was learned stay. Cold ones hold for a worker's
whole life: the workers are replaced one after the other, each new one ready before its predecessor goes.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pydantic.fields import FieldInfo

from edge.rules.settings import Section, Settings
from edge.rules.settings_values import Unit, described

HOT = frozenset(
    {"timeouts", "limits", "retries", "demerits", "core_api", "routes", "pool", "log", "drain", "watchdog"}
)
COLD = frozenset({"routes.directory", "routes.capacity", "routes.negative_capacity", "demerits.capacity"})
"Sizes of tables, which are made once."


class SettingChange(NamedTuple):
    """One setting that is different now."""

    path: str
    before: str
    after: str
    hot: bool

    def __str__(self) -> str:
        return f"{self.path}: {self.before} -> {self.after}"


def changes(old: Settings, new: Settings) -> list[SettingChange]:
    """All that is different, in the order of the reference."""
    return list(_changes("", old, new))


def _changes(prefix: str, old: Section, new: Section) -> Iterator[SettingChange]:
    for name, field in type(old).model_fields.items():
        before, after, path = getattr(old, name), getattr(new, name), f"{prefix}{name}"
        if before == after:
            continue
        if isinstance(before, Section) and isinstance(after, Section):
            yield from _changes(f"{path}.", before, after)
        else:
            hot = path.partition(".")[0] in HOT and path not in COLD
            yield SettingChange(path, _told(field, before), _told(field, after), hot)


def _told(field: FieldInfo, value: object) -> str:
    unit = next((m for m in field.metadata if isinstance(m, Unit)), None)
    if unit is not None and isinstance(value, int | float):
        return unit.text(value)
    if isinstance(value, tuple):
        return f"[{', '.join(_item(item) for item in value)}]"
    return str(value) if not isinstance(value, str | bool) and value is not None else described(value)


def _item(item: object) -> str:
    if not isinstance(item, Section):
        return str(item)
    told = ((name, getattr(item, name), field) for name, field in type(item).model_fields.items())
    return "{" + ", ".join(f"{name}: {_told(f, value)}" for name, value, f in told if value != f.default) + "}"
