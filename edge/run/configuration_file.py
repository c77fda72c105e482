"""The configuration file of an edge, read at the start and at each reload."""

import os
from pathlib import Path
from typing import NamedTuple

import structlog

from edge.rules.settings import Settings
from edge.rules.settings.file import SettingsError, former_names, parse
from edge.rules.settings.yaml_text import Fault

log = structlog.get_logger("styx.master")


class BadConfiguration(Exception):
    """The configuration cannot be used; the text has every fault on a line of its own."""


class ConfigurationText(NamedTuple):
    """The text of a configuration in force, and the path of the file that it was read from."""

    path: str
    text: str


class ConfigurationFile(NamedTuple):
    """A configuration file, by its path."""

    path: str

    def read(self) -> tuple[str, Settings]:
        """Read it: its text and the settings in it. Raises BadConfiguration."""
        try:
            text = Path(self.path).read_text()
            settings = parse(text, name=self.path, environ=os.environ)
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfiguration(
                f"cannot read {self.path}: {getattr(error, 'strerror', None) or error}"
            ) from error
        except SettingsError as error:
            raise BadConfiguration("\n".join(str(fault) for fault in error.faults)) from error
        return text, settings

    def former_names(self, text: str) -> tuple[Fault, ...]:
        """The settings in this text, which was read from the file, that have been renamed."""
        return former_names(text, name=self.path)

    def warn_of_former_names(self, text: str) -> None:
        """Log each setting in this text that has been renamed."""
        for fault in self.former_names(text):
            log.warning("deprecated setting name", code="setting_renamed", setting=str(fault))
