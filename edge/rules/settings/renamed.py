"""Former names of settings, and their new names. Pure.

To rename a setting, rename its field and add a row. A path is written without the indexes of list items
(`listeners.backlog`); the path of a section stands for all settings in it. A former name still works, with a
warning: `styx check` and the event log give its position and its new name.
"""

from collections.abc import Mapping
from typing import Final

RENAMED: Final[Mapping[str, str]] = {
    "demerits.copies": "demerits.shadow_probes",
    "demerits.crowd_power": "demerits.active_request_bias",
    "limits.answer_head": "limits.response_head",
    "retries.wait": "retries.queue_timeout",
    "retries.wait_backends": "retries.queue_backends",
    "routes.negative_capacity": "routes.unknown_host_capacity",
    "routes.negative_max_age": "routes.unknown_host_max_age",
    "shared": "redis",
}
"New paths by former paths."


def new_name(path: tuple[str | int, ...], renamed: Mapping[str, str] = RENAMED) -> str | None:
    """The new path, such as `listeners.0.backlog`, of the setting at this path in a file; None = it has no new
    name."""
    names = [part for part in path if isinstance(part, str)]
    new = renamed.get(".".join(names))
    if new is None:
        return None
    *outer, name = new.split(".")
    # In the same section: the indexes of list items stay.
    return ".".join(map(str, (*path[:-1], name))) if outer == names[:-1] else new
