"""Token files: read, and told plainly when they cannot be."""

from pathlib import Path


class CannotRead(Exception):
    """A token file is missing, unreadable or empty; the text says which and why."""


def read_token(path: str | None) -> str:
    """The token in this file; "" when there is to be none. Raises CannotRead."""
    if path is None:
        return ""
    try:
        token = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotRead(f"{getattr(error, 'strerror', None) or error}: {path}") from error
    if not token:
        raise CannotRead(f"{path} is empty")
    return token
