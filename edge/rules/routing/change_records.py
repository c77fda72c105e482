"""Changes as they are sent between processes, and as the core API sends them: records without logic."""

import msgspec


class Change(msgspec.Struct, frozen=True, array_like=True):
    """A change: the routes that it names become stale."""

    kind: str
    "One of `invalidation.KINDS`."
    name: str


class ChangeData(msgspec.Struct):
    """The data of an `invalidate` event of the core API. Members are empty if absent; all empty = everything
    changed."""

    hostname: str = ""
    site: str = ""
    environment: str = ""
    server: str = ""
    certificate: str = ""
