"""`styx serve`: from a configuration file to a master that serves until it is told to stop."""

import os

from edge.run import event_log
from edge.run.configuration_file import ConfigurationFile
from edge.run.heir import inherit
from edge.run.master import CannotServe as CannotServe
from edge.run.master import Master
from edge.run.premises import missing_premises
from edge.run.sockets import from_descriptors, take_over
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
    file = ConfigurationFile(path)
    try:
        _, settings = file.read()
    except CannotRead as error:
        raise BadConfiguration(str(error)) from error
    event_log.configure(settings.log)
    if missing := missing_premises(settings):
        raise CannotServe("\n".join(missing))
    spare, line = from_descriptors(descriptors), None
    if told:
        spare, line = take_over(told), int(predecessor)
    elif (inherited := inherit(settings.admin.address)) is not None:
        spare, line = inherited
    return Master(file, settings, systemd).run(spare, line)
