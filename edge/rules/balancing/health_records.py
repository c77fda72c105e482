"""A health event as workers send it to each other: a record without logic."""

import msgspec


class HealthEvent(msgspec.Struct, frozen=True, array_like=True):
    """A change of condition of a backend or a server, found by one worker."""

    kind: str
    "One of the constants of `health_events`: down, up, probation, well, suspect, clear."
    site: str
    environment: str
    endpoint: str
    "The endpoint of the backend; of `suspect` and `clear` the name of the server."
    why: str = ""
    'The reason for the probation, a value of `Why`; "" for the other events.'
