"""`styx serve` and `styx check`: read and check a configuration file; run a master with it."""

import os

from edge.rules.route_sets.route_set_records import RouteSet
from edge.rules.settings import Settings
from edge.run import event_log
from edge.run.configuration_file import BadConfiguration, ConfigurationFile
from edge.run.master import CannotServe as CannotServe
from edge.run.master import Master
from edge.run.preflight import Finding, addresses_in_use, as_faults, findings_of, tolerated
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
    text, settings, routes = _checked(path, spare)
    event_log.configure(settings.log)
    ConfigurationFile(path).warn_of_former_names(text)
    ready_pipe = int(predecessor) if passed else None
    if not passed and (inherited := inherit(settings.admin.address)) is not None:
        spare, ready_pipe = inherited
    return Master(ConfigurationFile(path), settings, systemd, routes, text).run(spare, ready_pipe)


def check(path: str) -> list[str]:
    """Check whether styx could serve with this file now. Returns what it would tolerate: settings that have been
    renamed, error pages and certificates that are not used, addresses in use by programs that cannot be seen.

    Raises what `serve` would raise."""
    text, settings, routes = _checked(path, Spare([]))
    warnings = [str(fault) for fault in ConfigurationFile(path).former_names(text)]
    warnings += as_faults(path, text, list(tolerated(settings, routes)))
    for address in addresses_in_use(settings):
        if not address.may_be_ours:
            raise CannotServe(address.words)
        warnings.append(f"{address.words}, by a program of another user; a styx that runs keeps its addresses")
    return warnings


def _checked(path: str, held: Spare) -> tuple[str, Settings, RouteSet | None]:
    """The text, the settings in it, and the initial routes if their source is a file. `held`: sockets that are open
    already. Raises BadConfiguration."""
    text, settings = ConfigurationFile(path).read()
    routes, wrong = first_routes(settings)
    findings = list(findings_of(settings, held, os.environ, routes=False))
    findings += [Finding("core_api.url", words) for words in wrong]
    if faults := as_faults(path, text, findings):
        raise BadConfiguration("\n".join(faults))
    return text, settings, routes
