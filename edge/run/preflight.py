"""What a configuration relies on outside itself: files of tokens and of routes, directories, the user.

`styx check`, a start and a reload ask."""

import os
import pwd
from importlib.util import find_spec
from pathlib import Path

from edge.rules.route_file import routes_in
from edge.rules.settings import Settings
from edge.rules.settings_file import SettingsError
from edge.run.tokens import CannotRead, read_token


def missing_premises(settings: Settings) -> list[str]:
    """What is not as these settings need it, each as `setting: what is wrong`; empty = all is there."""
    faults = []
    for name, path in (
        ("core_api.token_file", settings.core_api.token_file),
        ("admin.token_file", settings.admin.token_file),
        ("shared.password_file", settings.shared.password_file),
    ):
        try:
            read_token(path)
        except CannotRead as error:
            faults.append(f"{name}: {error}")
    if settings.shared.url is not None and find_spec("redis") is None:
        faults.append("shared.url: the redis package is not installed: pip install 'styx-edge[redis]'")
    if settings.core_api.file is not None:
        faults += [f"core_api.url: {fault}" for fault in _faults_of_routes(settings.core_api.file)]
    directory = os.path.dirname(settings.admin.socket)
    if directory and not os.path.isdir(directory):
        faults.append(f"admin.socket: there is no directory {directory}")
    if settings.user:
        try:
            pwd.getpwnam(settings.user)
        except KeyError:
            faults.append(f"user: there is no user {settings.user!r} on this machine")
    return faults


def _faults_of_routes(path: str) -> list[str]:
    try:
        routes_in(Path(path).read_text(), name=path, generation=0)
    except (OSError, UnicodeDecodeError) as error:
        return [f"cannot read {path}: {getattr(error, 'strerror', None) or error}"]
    except SettingsError as error:
        return [str(fault) for fault in error.faults]
    return []
