"""Reads the file of ticket secrets, which nobody else may read: whoever can, can decrypt resumed sessions."""

import os
import stat

from edge.net.secret_files import SecretFileError
from edge.rules.tls.ticket_secrets import LONGEST_FILE, BadTicketSecrets, TicketSecrets, ticket_secrets


def read_ticket_secrets(path: str) -> TicketSecrets:
    """The secrets in this file. It must belong to this user or root, and be accessible to nobody else. Raises
    SecretFileError."""
    try:
        # Not blocking: a named pipe without a writer would block for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise SecretFileError(f"no regular file: {path}")
            if status.st_uid not in (0, os.geteuid()):
                raise SecretFileError(f"belongs to user {status.st_uid}, who could change it: {path}")
            if status.st_mode & 0o077:
                mode = stat.S_IMODE(status.st_mode)
                raise SecretFileError(f"others may access it (mode {mode:04o}), chmod 600 it: {path}")
            return ticket_secrets(file.read(LONGEST_FILE + 1))
    except SecretFileError:
        raise
    except (OSError, BadTicketSecrets) as error:
        raise SecretFileError(f"{getattr(error, 'strerror', None) or error}: {path}") from error
