"""What one worker tells the others about a backend or a server: a record without logic."""

import msgspec


class HealthEvent(msgspec.Struct, frozen=True, array_like=True):
    """One worker's finding."""

    what: str
    site: str
    environment: str
    endpoint: str
    "The backend and where it is; of `suspect` and `clear` the name of the server."
    why: str = ""
    "What it is on probation for."
