"""The limit of open files: raised to what the system allows, and divided by `rules/limits/fd_shares.py`."""

import resource

import structlog

from edge.rules.limits.fd_shares import DescriptorShares, needed, share_out
from edge.rules.settings import Settings

log = structlog.get_logger("styx.master")


def raise_open_files(settings: Settings) -> None:
    """Raise the soft limit of open files (RLIMIT_NOFILE) to the hard one. Warn when the settings need more."""
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        except (OSError, ValueError) as error:
            log.warning("limit of open files not raised", code="open_files_not_raised", error=str(error))
    warn_of_few_files(settings)


def warn_of_few_files(settings: Settings) -> None:
    """Warn when a worker may not open as many files as the settings need, and so holds fewer connections."""
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
    """The shares of a worker in the present limit of this process."""
    return share_out(_allowed(), settings.limits, settings.pool)


def _allowed() -> int | None:
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if allowed == resource.RLIM_INFINITY else allowed
