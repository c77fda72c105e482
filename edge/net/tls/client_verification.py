"""Asks the clients of a listener for certificates, and verifies them.

    files of authorities  ─► ClientAuthorities, ─► VerifyingContexts ─► base contexts, and those of hosts
    and revocation lists     RevocationLists
         └─ changed ────────► others ────────────► others, for new connections

All that is kept of one reading of the files is replaced at once, so no connection gets a part of both. Other
revocation lists leave the contexts, and so the sessions, as they are: they are looked at in every handshake.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from edge.net.secret_files import SecretFileError
from edge.net.tls.tls_contexts import BaseContexts, TlsProfile
from edge.rules.settings.listeners import ClientVerificationFiles
from edge.rules.tls.client_authorities import ClientAuthorities, UnusableAuthorities, client_authorities
from edge.rules.tls.revocation_lists import RevocationLists, UnusableRevocationLists, revocation_lists
from edge.rules.tls.ticket_keys import TicketKeys

TOLD_EVERY: Final = 3600.0
"Seconds until the same list that is not in force is told of again."

log = structlog.get_logger("styx.tls")


def read_authorities(path: str, *, is_required: bool) -> ClientAuthorities:
    """The authorities in this file. Raises SecretFileError."""
    try:
        return client_authorities(Path(path).read_bytes(), is_required=is_required)
    except (OSError, UnusableAuthorities) as error:
        raise SecretFileError(f"{getattr(error, 'strerror', None) or error}: {path}") from error


def read_revocations(path: str, authorities: ClientAuthorities) -> RevocationLists:
    """The revocation lists of these authorities in this file. Raises SecretFileError."""
    try:
        return revocation_lists(Path(path).read_bytes(), authorities)
    except (OSError, UnusableRevocationLists) as error:
        raise SecretFileError(f"{getattr(error, 'strerror', None) or error}: {path}") from error


class VerifyingContexts:
    """The authorities of one reading of the file, and the base contexts that go with them."""

    __slots__ = ("authorities", "bases", "revocations")

    def __init__(self, authorities: ClientAuthorities, profile: TlsProfile, keys: TicketKeys) -> None:
        self.authorities = authorities
        self.bases = BaseContexts(profile, keys, authorities=authorities)
        self.revocations: RevocationLists | None = None
        "None = none is looked at."


class ClientVerification:
    """The client certificates of the listeners with the same files and requirement."""

    __slots__ = ("_profile", "_told", "contexts", "files", "wall")

    contexts: VerifyingContexts
    "For new connections."

    def __init__(self, files: ClientVerificationFiles, profile: TlsProfile) -> None:
        """Nothing is read before `read`."""
        self.files = files
        self._profile = profile
        self.wall: Callable[[], float] = time.time
        "Unix time."
        self._told = 0.0
        "When lists that are not in force were last told of; Unix time."

    def look(self) -> tuple[ClientAuthorities, RevocationLists | None]:
        """Read the files, and use nothing of them yet. Long lists take a second: in any thread. Raises
        SecretFileError."""
        authorities = read_authorities(self.files.authorities, is_required=self.files.is_required)
        path = self.files.revocations
        return authorities, None if path is None else read_revocations(path, authorities)

    def use(self, authorities: ClientAuthorities, revocations: RevocationLists | None, keys: TicketKeys) -> None:
        """Use what `look` has found. `keys`: the ticket keys of now."""
        known = getattr(self, "contexts", None)
        if known is None or known.authorities.group != authorities.group:
            known = VerifyingContexts(authorities, self._profile, keys)
        known.revocations = revocations
        self.contexts = known
        self._told = 0.0
        self.tell_not_in_force()

    def read(self, keys: TicketKeys) -> None:
        """Read the files and use them. Raises SecretFileError, and then changes nothing."""
        self.use(*self.look(), keys)

    def rotate(self, keys: TicketKeys) -> None:
        """Use these ticket keys."""
        self.contexts.bases.rotate(keys)

    @property
    def soonest_end(self) -> float | None:
        """When the first revocation list ends, Unix time; None = there is none, or none was read yet."""
        known: VerifyingContexts | None = getattr(self, "contexts", None)
        return None if known is None or known.revocations is None else known.revocations.soonest_end

    def tell_not_in_force(self) -> None:
        """Log each revocation list that has ended, or has not begun, and again after `TOLD_EVERY`."""
        now, revocations = self.wall(), self.contexts.revocations
        if revocations is None or now < self._told + TOLD_EVERY:
            return
        for each in revocations.not_in_force(now):
            self._told = now
            log.error(
                "revocation list not in force",
                code="client_crl_not_in_force",
                file=self.files.revocations,
                issuer=each.issuer,
                begins=int(each.begins),
                ends=int(each.ends),
            )
