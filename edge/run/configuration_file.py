"""Where the settings of an edge come from: read at a start, and at each reload."""

import os
from pathlib import Path
from typing import NamedTuple

from edge.rules.settings import Settings
from edge.rules.settings.file import SettingsError, parse
from edge.run.tokens import CannotRead


class ConfigurationFile(NamedTuple):
    """Where the settings come from."""

    path: str

    def read(self) -> tuple[str, Settings]:
        """Raises CannotRead with every fault on a line of its own."""
        try:
            text = Path(self.path).read_text()
            settings = parse(text, name=self.path, environ=os.environ)
        except (OSError, UnicodeDecodeError) as error:
            raise CannotRead(f"cannot read {self.path}: {getattr(error, 'strerror', None) or error}") from error
        except SettingsError as error:
            raise CannotRead("\n".join(str(fault) for fault in error.faults)) from error
        return text, settings
