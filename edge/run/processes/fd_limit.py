"""How many files styx may have open: as many as the system lets it, shared out by `rules/limits/fd_shares.py`."""

import resource

import structlog

from edge.rules.limits.fd_shares import DescriptorShares, needed, share_out
from edge.rules.settings import Settings

log = structlog.get_logger("styx.master")


def raise_open_files(settings: Settings) -> None:
    """Allow ourselves as many open files as the system lets us have. Warn when the limits promise more."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        except (OSError, ValueError) as error:
            log.warning("limit of open files not raised", code="open_files_not_raised", error=str(error))
    warn_of_few_files(settings)


def warn_of_few_files(settings: Settings) -> None:
    """Warn when a worker may not open as many files as the limits promise, and so keeps fewer connections."""
    allowed, wanted = _allowed(), needed(settings.limits, settings.pool)
    if allowed is not None and allowed < wanted:
        log.warning(
            "too few open files for limits.connections",
            code="too_few_open_files",
            remedy="raise their hard limit (LimitNOFILE in systemd, nofile in limits.conf, --ulimit nofile for a "
            "container), or lower limits.connections",
            allowed=allowed,
            needed=wanted,
            connections=descriptor_shares(settings).clients,
        )


def descriptor_shares(settings: Settings) -> DescriptorShares:
    """Of a worker, as this process may open files now."""
    return share_out(_allowed(), settings.limits, settings.pool)


def _allowed() -> int | None:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if allowed == resource.RLIM_INFINITY else allowed
