"""Settings that have another name than in an earlier version: `styx check` tells the new one. Pure.

To rename a setting, rename its field and add a row. A path is written without the numbers of list items
(`listeners.backlog`); that of a section stands for all settings in it. A former name is not accepted: the row only
says what to write instead.
"""

from collections.abc import Mapping
from typing import Final

RENAMED: Final[Mapping[str, str]] = {
    # "former.path": "new.path",
}


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
