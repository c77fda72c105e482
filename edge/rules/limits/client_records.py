"""Records of clients, for operators. Without logic."""

import msgspec


class ClientNow(msgspec.Struct, frozen=True):
    """The use that one client makes of one worker."""

    client: str
    "An IPv4 address, or an IPv6 prefix; whom a trusted proxy names, if there is one."
    connections: int
    in_flight: int
    "Requests in flight."
    unknown_hosts: int
    "Hostnames that do not exist, asked for within the last minute, as far as they were looked up."
    at_limit: bool
    "Whether further unknown hostnames of it wait, or are answered 429 `unknown_host_limit`."


class ClientList(msgspec.Struct, frozen=True):
    """The clients of one worker that take up most."""

    total: int
    "Clients with a connection, or with unknown hostnames."
    clients: list[ClientNow]
    "The first ones by connections, by requests in flight, and by unknown hostnames."
