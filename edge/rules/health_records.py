"""What one worker tells the others about a backend or a server: a record without logic."""

import msgspec


class Evidence(msgspec.Struct, frozen=True, array_like=True):
    """One worker's finding."""

    what: str
    site: str
    environment: str
    place: str
    "The backend and where it is; of `suspect` and `clear` the name of the server."
    why: str = ""
    "What it is on probation for."
