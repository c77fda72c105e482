"""What a configuration relies on outside itself: token files, the user. `styx check`, a start and a reload ask."""

import pwd

from edge.rules.settings import Settings
from edge.run.tokens import CannotRead, read_token


def missing_premises(settings: Settings) -> list[str]:
    """What is not as these settings need it, each as `setting: what is wrong`; empty = all is there."""
    faults = []
    for name, path in (
        ("core_api.token_file", settings.core_api.token_file),
        ("admin.token_file", settings.admin.token_file),
    ):
        try:
            read_token(path)
        except CannotRead as error:
            faults.append(f"{name}: {error}")
    if settings.user:
        try:
            pwd.getpwnam(settings.user)
        except KeyError:
            faults.append(f"user: there is no user {settings.user!r} on this machine")
    return faults
