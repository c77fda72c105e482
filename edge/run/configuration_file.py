"""Where the settings of an edge come from: read at a start, and at each reload."""

import os
from pathlib import Path
from typing import NamedTuple

from edge.rules.settings import Settings
from edge.rules.settings.file import SettingsError, parse


class BadConfiguration(Exception):
    """The configuration cannot be used; the text has every fault on a line of its own."""


class ConfigurationFile(NamedTuple):
    """Where the settings come from."""

    path: str

    def read(self) -> tuple[str, Settings]:
        """The text and the settings in it. Raises BadConfiguration."""
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
