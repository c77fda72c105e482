"""Asks the clients of a listener for certificates, and verifies them.

    file of authorities ─► ClientAuthorities ─► VerifyingContexts ─► base contexts, and those of hosts
         └─ changed ──────► others ───────────► others, for new connections

All that is kept of one reading of the file is replaced at once, so no connection gets a part of both.
"""

from pathlib import Path

from edge.net.secret_files import SecretFileError
from edge.net.tls.tls_contexts import BaseContexts, TlsProfile
from edge.rules.tls.client_authorities import ClientAuthorities, UnusableAuthorities, client_authorities
from edge.rules.tls.ticket_keys import TicketKeys


def read_authorities(path: str, *, is_required: bool) -> ClientAuthorities:
    """The authorities in this file. Raises SecretFileError."""
    try:
        return client_authorities(Path(path).read_bytes(), is_required=is_required)
    except (OSError, UnusableAuthorities) as error:
        raise SecretFileError(f"{getattr(error, 'strerror', None) or error}: {path}") from error


class VerifyingContexts:
    """The authorities of one reading of the file, and the base contexts that go with them."""

    __slots__ = ("authorities", "bases")

    def __init__(self, authorities: ClientAuthorities, profile: TlsProfile, keys: TicketKeys) -> None:
        self.authorities = authorities
        self.bases = BaseContexts(profile, keys, authorities=authorities)


class ClientVerification:
    """The client certificates of the listeners with the same file and requirement."""

    __slots__ = ("_is_required", "_path", "_profile", "contexts")

    contexts: VerifyingContexts
    "For new connections."

    def __init__(self, path: str, profile: TlsProfile, *, is_required: bool) -> None:
        """Nothing is read before `read`."""
        self._path = path
        self._profile = profile
        self._is_required = is_required

    def read(self, keys: TicketKeys) -> None:
        """Read the file. Raises SecretFileError, and then changes nothing. `keys`: the ticket keys of now."""
        authorities = read_authorities(self._path, is_required=self._is_required)
        known = getattr(self, "contexts", None)
        if known is None or known.authorities.group != authorities.group:
            self.contexts = VerifyingContexts(authorities, self._profile, keys)

    def rotate(self, keys: TicketKeys) -> None:
        """Use these ticket keys."""
        self.contexts.bases.rotate(keys)
