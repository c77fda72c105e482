"""Compares two configurations, and says of each difference whether a reload can apply it at once. Pure.

A hot setting is swapped in place: routes, connections and all that was learned stay. A cold setting is fixed for
the life of a worker: the workers are replaced, and each new one is ready before its predecessor drains. The field
of a setting is marked with its kind (`section.Hot`, `section.Cold`).
"""

from collections.abc import Iterator
from typing import NamedTuple

from pydantic.fields import FieldInfo

from edge.rules.settings.root import Settings
from edge.rules.settings.section import OnReload, Section, reload_of, unit_of
from edge.rules.settings.values import described


class SettingChange(NamedTuple):
    """A setting that differs, with both values as they are written in a file."""

    path: str
    before: str
    after: str
    hot: bool
    "Whether the new value can be applied at once."

    def __str__(self) -> str:
        return f"{self.path}: {self.before} -> {self.after}"


def changes(old: Settings, new: Settings) -> list[SettingChange]:
    """All settings that differ, in the order of config/styx.yaml."""
    return list(_changes("", old, new))


def bound_to_admin_process(settings: Settings) -> tuple[object, ...]:
    """The cold settings that the admin process uses as well: when one of them changes, it is replaced, too."""
    routes, listeners = settings.routes, [listener.address for listener in settings.listeners]
    of_routes = routes.directory, routes.capacity
    return settings.admin, settings.user, settings.edge_name, settings.redis, of_routes, listeners


def bound_to_issuer(settings: Settings) -> tuple[object, ...] | None:
    """The settings of the process that orders certificates: when one of them changes, it is replaced. None = there
    is none."""
    if not settings.tls.acme.is_on:
        return None
    return settings.tls.acme, settings.tls.directory, settings.user


def _changes(prefix: str, old: Section, new: Section) -> Iterator[SettingChange]:
    for name, field in type(old).model_fields.items():
        before, after, path = getattr(old, name), getattr(new, name), f"{prefix}{name}"
        if before == after:
            continue
        if isinstance(before, Section) and isinstance(after, Section):
            yield from _changes(f"{path}.", before, after)
        else:
            hot = reload_of(field) is OnReload.SWAP
            yield SettingChange(path, _written(field, before), _written(field, after), hot)


def _written(field: FieldInfo, value: object) -> str:
    unit = unit_of(field)
    if unit is not None and isinstance(value, int | float):
        return unit.text(value)
    if isinstance(value, tuple):
        return f"[{', '.join(_item(item) for item in value)}]"
    return str(value) if not isinstance(value, str | bool) and value is not None else described(value)


def _item(item: object) -> str:
    if not isinstance(item, Section):
        return str(item)
    given = ((name, getattr(item, name), field) for name, field in type(item).model_fields.items())
    return "{" + ", ".join(f"{name}: {_written(f, value)}" for name, value, f in given if value != f.default) + "}"
