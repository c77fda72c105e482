"""The configuration that is used when the command line names none."""

import os
from collections.abc import Callable
from typing import Final

DEFAULTS: Final = ("/etc/styx/styx.yaml", "styx.yaml")
"The paths that are tried, in order."


class NoConfiguration(Exception):
    """There is no configuration at the default paths; the text says what to do."""


def configuration_path(
    given: str | None,
    exists: Callable[[str], bool] = os.path.lexists,
    may_enter: Callable[[str], bool] = lambda directory: os.access(directory, os.X_OK),
) -> str:
    """The path of the configuration: the one that is given, else the first default that exists. Raises
    NoConfiguration."""
    if given is not None:
        return given
    for path in DEFAULTS:
        if exists(path):
            return path
    directory = os.path.dirname(DEFAULTS[0])
    if exists(directory) and not may_enter(directory):
        raise NoConfiguration(
            f"no configuration: this user may not look into {directory}; be root or the user of the service (with "
            "sudo, say), or name another one with -c or STYX_CONFIG"
        )
    raise NoConfiguration(
        "no configuration: neither /etc/styx/styx.yaml nor ./styx.yaml exists. `styx init` writes one; -c or "
        "STYX_CONFIG names another"
    )
