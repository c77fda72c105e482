"""The admin address that a command connects to: `--admin`, else STYX_ADMIN, else that of the configuration, else
the default.

Commands are for incidents: with a configuration that cannot be read they ask the default address. Where an address
comes from is part of every message about it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DEFAULT: Final = "127.0.0.1:9901"
"The default of `admin.address`."


@dataclass(frozen=True, slots=True)
class AdminChoice:
    """An admin address, and where it comes from."""

    address: str
    origin: str = ""
    "For messages; empty = the command line."

    def __str__(self) -> str:
        return f"{self.address} ({self.origin})" if self.origin else self.address


def admin_choice(environ: Mapping[str, str]) -> AdminChoice:
    """The admin address of the configuration that `styx serve` would use in this environment, else the default."""
    from edge.run.installation.configuration_path import NoConfiguration, configuration_path

    try:
        path = os.path.abspath(configuration_path(environ.get("STYX_CONFIG") or None))
    except NoConfiguration as error:
        why, _, _ = str(error).partition("; ")
        return AdminChoice(DEFAULT, f"the default: {why.partition('. ')[0]}")
    found, why = _address_in(path, environ)
    if found:
        return AdminChoice(found, f"admin.address of {path}")
    return AdminChoice(DEFAULT, f"the default: {why}" if why else f"the default: {path} sets no admin.address")


def _address_in(path: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The address, empty if it is not set or not usable; and why it is not usable."""
    from edge.rules.settings.file import SettingsError, admin_address_in

    try:
        found = admin_address_in(Path(path).read_text(), name=path, environ=environ)
    except (OSError, UnicodeDecodeError) as error:
        return "", f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
    except SettingsError as error:
        return "", str(error.faults[0])
    if found is not None and not (found.port or found.path):
        return "", f"admin.address of {path} is any free port; --admin names it"
    return ("" if found is None else str(found)), ""


def default_admin() -> AdminChoice:
    """The admin address when neither the command line nor STYX_ADMIN names one."""
    return admin_choice(os.environ)
