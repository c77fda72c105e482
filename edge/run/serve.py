"""`styx serve` and `styx check`: read and check a configuration file; run a master with it."""

import os

from edge.rules.route_sets.route_set_records import RouteSet
from edge.rules.settings import Settings
from edge.rules.settings.yaml_text import Fault
from edge.run import event_log
from edge.run.configuration_file import BadConfiguration, ConfigurationFile
from edge.run.master import CannotServe as CannotServe
from edge.run.master import Master
from edge.run.preflight import Finding, as_faults, findings_of
from edge.run.processes.upgrade import READY, SOCKETS
from edge.run.routes.initial_routes import first_routes
from edge.run.sockets.listening_sockets import Spare, from_descriptors, take_over
from edge.run.sockets.socket_handover import inherit
from edge.run.sockets.systemd import Systemd, listening_descriptors


def serve(path: str) -> int:
    """Serve with the configuration in this file; returns the exit status.

    Raises BadConfiguration or CannotServe before anything is served.
    """
    systemd = Systemd.from_environment(os.environ, os.getpid())
    descriptors = listening_descriptors(os.environ, os.getpid())
    passed, predecessor = os.environ.pop(SOCKETS, ""), os.environ.pop(READY, "")
    spare = take_over(passed) if passed else from_descriptors(descriptors)
    text, settings, routes = _checked(path, spare, pages=False)  # a fault in a page keeps no edge from serving
    event_log.configure(settings.log)
    ConfigurationFile(path).warn_of_former_names(text)
    ready_pipe = int(predecessor) if passed else None
    if not passed and (inherited := inherit(settings.admin.address)) is not None:
        spare, ready_pipe = inherited
    return Master(ConfigurationFile(path), settings, systemd, routes, text).run(spare, ready_pipe)


def check(path: str) -> tuple[Fault, ...]:
    """Check whether styx could serve with this file now. Returns the settings in it that have been renamed. Raises
    BadConfiguration."""
    return ConfigurationFile(path).former_names(_checked(path, Spare([]), pages=True)[0])


def _checked(path: str, held: Spare, *, pages: bool) -> tuple[str, Settings, RouteSet | None]:
    """The text, the settings in it, and the initial routes if their source is a file. `held`: sockets that are open
    already. `pages`: whether error pages are checked. Raises BadConfiguration."""
    text, settings = ConfigurationFile(path).read()
    routes, wrong = first_routes(settings)
    findings = [Finding("core_api.url", words) for words in wrong]
    found = findings_of(settings, held, os.environ, routes=False, pages=pages)
    if faults := as_faults(path, text, [*found, *findings]):
        raise BadConfiguration("\n".join(faults))
    return text, settings, routes
