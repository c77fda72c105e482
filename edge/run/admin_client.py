"""Client of the admin API of a running styx: over its admin address, or over its Unix admin socket where needed.

A request goes to the admin address first. A server that denies it there (401, 403) names its Unix socket if both
are on one machine; the same request is then sent over that, for a denied request was not carried out.
"""

import http.client
import json
import os
import pwd
import socket
from typing import Any, NamedTuple

import msgspec

from edge.rules.settings.values import Address

WITH_TOKEN = "the admin token (--token-file or STYX_ADMIN_TOKEN)"
OF_LISTENERS = "X-Styx-Edge"
"A header field of every response to clients, and of no response of the admin server."


class AdminFailed(Exception):
    """The admin server could not be reached, or denied the request; the text says where and why, in one line."""


class NobodyAnswers(AdminFailed):
    """There is no server at the address, or it cannot be reached."""


class AdminEndpoint(NamedTuple):
    """An admin server and the token to use there."""

    name: str
    "The address as the operator wrote it, for messages."
    address: Address
    token: str = ""
    timeout: float = 5.0


class AdminResponse(NamedTuple):
    """A response, and whether a listener for clients sent it."""

    status: int
    body: str
    by_listener: bool


def ask(target: AdminEndpoint, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    """GET this path, or POST a body to it. Returns status and body of the response. Raises AdminFailed."""
    response = _requested(target, path, body)
    if response.by_listener:
        raise AdminFailed(f"{target.name} is where styx takes requests of clients, not its admin address")
    if response.status not in (401, 403):
        return response.status, response.body
    denial = document(target.name, response.body)
    if denial.get("socket") and not (target.token or target.address.path):
        local = target._replace(name=f"unix:{denial['socket']}", address=Address(path=str(denial["socket"])))
        try:
            response = _requested(local, path, body)
        except NobodyAnswers as error:
            raise AdminFailed(f"{error}; on another machine or in another container use {WITH_TOKEN}") from error
        if response.status not in (401, 403):
            return response.status, response.body
        denial = document(local.name, response.body)
    raise AdminFailed(f"{target.name} refused: {denial.get('detail', response.status)}{_remedy(target, denial)}")


def document(name: str, body: str) -> dict[str, Any]:
    """Decode a JSON object from an admin server. Raises AdminFailed when it is not one."""
    try:
        decoded = msgspec.json.decode(body)
    except msgspec.DecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise AdminFailed(no_admin_server(name))
    return decoded


def no_admin_server(name: str) -> str:
    """Say that the address is that of something else."""
    return f"{name} does not answer as an admin server of styx does"


def _requested(target: AdminEndpoint, path: str, body: dict[str, Any] | None) -> AdminResponse:
    address = target.address
    connection = http.client.HTTPConnection(address.host or "localhost", address.port or 80, timeout=target.timeout)
    headers = {"Host": b"localhost"}
    if target.token:
        headers["Authorization"] = b"Bearer " + target.token.encode()
    is_connected = False
    try:
        if address.path:
            connection.sock = _connected(address.path, target.timeout)
        else:
            connection.connect()
        is_connected = True
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        by_listener = response.headers[OF_LISTENERS] is not None
        return AdminResponse(response.status, response.read().decode(errors="replace"), by_listener)
    except (OSError, http.client.HTTPException) as error:
        if address.path and isinstance(error, PermissionError):
            raise AdminFailed(_not_permitted(target)) from error
        if isinstance(error, http.client.HTTPException) and not isinstance(error, OSError):
            raise AdminFailed(no_admin_server(target.name)) from error
        if is_connected and isinstance(error, TimeoutError):
            raise AdminFailed(_silent(target)) from error
        if is_connected:
            raise AdminFailed(no_admin_server(target.name)) from error
        raise NobodyAnswers(f"nobody answers at {target.name}: {error.strerror or error}") from error
    except ValueError as error:  # raised by http.client: the token would become more than one field
        raise AdminFailed("the admin token has a line break in it") from error
    finally:
        connection.close()


def _connected(path: str, timeout: float) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def _remedy(target: AdminEndpoint, denial: dict[str, Any]) -> str:
    if not target.token:
        return f" Use {WITH_TOKEN}."
    if denial.get("socket"):
        return f" The token that was sent is not one there; without it, unix:{denial['socket']} is asked."
    return ""


def _silent(target: AdminEndpoint) -> str:
    return (
        f"{target.name} has accepted the connection, but not answered within {target.timeout:g} s: its process is "
        "stopped, stuck or overloaded; `styx support-dump` on its machine has the stacks of its processes"
    )


def _not_permitted(target: AdminEndpoint) -> str:
    path = target.address.path
    return f"not permitted at {target.name}: this needs root or {_owner(path)}, or {WITH_TOKEN}"


def _owner(path: str) -> str:
    try:
        user = os.stat(path).st_uid
    except OSError:  # we may not search its directory
        return "the user of styx"
    try:
        return f"user {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"user {user}"
