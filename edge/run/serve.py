"""`styx serve`: from a configuration file to a master that serves until it is told to stop."""

import os

from edge.rules.settings import Settings
from edge.run import event_log
from edge.run.configuration_file import ConfigurationFile
from edge.run.heir import inherit
from edge.run.master import CannotServe as CannotServe
from edge.run.master import Master
from edge.run.preflight import preflight
from edge.run.sockets import Spare, from_descriptors, take_over
from edge.run.systemd import Systemd, listening_descriptors
from edge.run.tokens import CannotRead
from edge.run.upgrading import READY, SOCKETS


class BadConfiguration(Exception):
    """The configuration cannot be used; the text has every fault on a line of its own."""


def serve(path: str) -> int:
    """Serve by the configuration in this file; returns the exit status.

    Raises BadConfiguration or CannotServe before anything is served.
    """
    systemd = Systemd.from_environment(os.environ, os.getpid())
    descriptors = listening_descriptors(os.environ, os.getpid())
    told, predecessor = os.environ.pop(SOCKETS, ""), os.environ.pop(READY, "")
    spare = take_over(told) if told else from_descriptors(descriptors)
    settings = check(path, spare)
    event_log.configure(settings.log)
    line = int(predecessor) if told else None
    if not told and (inherited := inherit(settings.admin.address)) is not None:
        spare, line = inherited
    return Master(ConfigurationFile(path), settings, systemd).run(spare, line)


def check(path: str, held: Spare | None = None) -> Settings:
    """The settings in this file, by which one could serve now. `held`: the sockets that are there already.

    Raises BadConfiguration.
    """
    try:
        text, settings = ConfigurationFile(path).read()
    except CannotRead as error:
        raise BadConfiguration(str(error)) from error
    if faults := preflight(path, text, settings, held or Spare([])):
        raise BadConfiguration("\n".join(faults))
    return settings
