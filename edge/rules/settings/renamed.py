"""Settings that had another name in an earlier version, and what they are called now. Pure.

To rename a setting, rename its field and add a row. A path is written without the numbers of list items
(`listeners.backlog`); that of a section stands for all settings in it. A former name still works, with a warning:
`styx check` and the event log say where it stands and what to write instead.
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
"By former path, the new one."


def new_name(path: tuple[str | int, ...], renamed: Mapping[str, str] = RENAMED) -> str | None:
    """What the setting at this path in a file is called now, such as `listeners.0.backlog`; None when it is not a
    former name."""
    names = [part for part in path if isinstance(part, str)]
    new = renamed.get(".".join(names))
    if new is None:
        return None
    *outer, name = new.split(".")
    # Beside the old one: the numbers of list items stay.
    return ".".join(map(str, (*path[:-1], name))) if outer == names[:-1] else new
