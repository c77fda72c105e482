"""Reads secret files: a token or a password whose file the settings name, instead of containing it."""

from pathlib import Path


class SecretFileError(OSError):
    """A secret file is missing, unreadable or empty; the message names the file and the reason."""


def read_secret(path: str | None) -> str:
    """The secret in this file, without white space around it; "" when no file is named. Raises SecretFileError."""
    if path is None:
        return ""
    try:
        secret = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SecretFileError(f"{getattr(error, 'strerror', None) or error}: {path}") from error
    if not secret:
        raise SecretFileError(f"{path} is empty")
    return secret
