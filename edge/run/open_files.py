"""How many files styx may have open: as many as the system lets it."""

import resource

import structlog

from edge.rules.settings import Settings

OTHER_FILES = 256
"Open files besides the connections of clients and the idle ones to backends: listeners, logs, admin, core API."

log = structlog.get_logger("styx.master")


def raise_open_files(settings: Settings) -> None:
    """Allow ourselves as many open files as the system lets us have. Warn when the limits promise more.

    Beyond it the loop accepts and closes at once (libuv keeps a spare file for that): nobody is told why.
    """
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            allowed = most
        except (OSError, ValueError) as error:
            log.warning("cannot raise the limit of open files", error=str(error))
    needed = settings.limits.connections + settings.pool.idle_total + OTHER_FILES
    if allowed != resource.RLIM_INFINITY and allowed < needed:
        log.warning(
            "too few open files for limits.connections: raise their hard limit (LimitNOFILE in systemd, nofile in "
            "limits.conf, --ulimit nofile for a container), or lower limits.connections",
            allowed=allowed,
            needed=needed,
        )
