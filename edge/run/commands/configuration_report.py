"""The settings in force, with where each comes from: of a running edge, or of a file."""

import os
from pathlib import Path

from edge.admin.admin_messages import ConfigSetting, Configuration
from edge.rules.settings import Settings
from edge.rules.settings.effective import effective_settings
from edge.run.configuration_file import ConfigurationText


def running_configuration(settings: Settings, source: ConfigurationText) -> Configuration:
    """The settings that are in force, parsed from `source`. Their places have the whole path: whoever reads them is
    in another directory than the edge."""
    if source.path:
        source = source._replace(path=os.path.abspath(source.path))
    try:
        changed = Path(source.path).read_text() != source.text
    except (OSError, UnicodeDecodeError):
        return configuration(settings, source, changed_since=None)
    return configuration(settings, source, changed_since=changed)


def configuration(settings: Settings, source: ConfigurationText, *, changed_since: bool | None) -> Configuration:
    """These settings, parsed from `source`. `changed_since`: as in `Configuration`."""
    rows = effective_settings(settings, source.text, name=source.path)
    shown = [
        ConfigSetting(row.path, row.value, row.source, row.place, list(row.variables), row.hot) for row in rows
    ]
    return Configuration(source.path, changed_since, shown)
