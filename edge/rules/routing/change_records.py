"""What became stale, as it is sent between processes and as the core API says it: records without logic."""

import msgspec


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What became stale."""

    kind: str
    "One of `changes.KINDS`."
    name: str


class ChangeData(msgspec.Struct):
    """The data of an `invalidate` event of the core API. Empty = it does not say; all of them = everything."""

    hostname: str = ""
    site: str = ""
    environment: str = ""
    server: str = ""
