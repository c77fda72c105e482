"""Shared parts of commands: options, requests to a running styx, and error messages."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from edge.rules.settings import Address
    from edge.run.admin_client import AdminEndpoint
    from edge.run.installation.admin_choice import AdminChoice

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])


def _configuration(_: click.Context, __: click.Parameter, given: str | None) -> str:
    from edge.run.installation.configuration_path import NoConfiguration, configuration_path

    try:
        return configuration_path(given)
    except NoConfiguration as error:
        fail(f"styx: {error}", 2)


def _admin(context: click.Context, option: click.Parameter, given: str | None) -> "AdminChoice":
    from edge.run.installation.admin_choice import AdminChoice, default_admin

    if given is None:
        return default_admin()
    source = context.get_parameter_source(option.name or "")
    return AdminChoice(given, "STYX_ADMIN" if source is click.core.ParameterSource.ENVIRONMENT else "")


def config_option(text: str, callback: Callable[..., str] | None = None) -> Callable[[F], F]:
    """The option that names the configuration file. `text`: its help. `callback`: as in click."""
    return click.option(
        "-c",
        "--config",
        type=click.Path(dir_okay=False),
        envvar="STYX_CONFIG",
        show_envvar=True,
        callback=callback,
        help=text,
    )


CONFIG = config_option("Configuration file.  [default: /etc/styx/styx.yaml, else ./styx.yaml]", _configuration)
ADMIN = click.option(
    "--admin",
    envvar="STYX_ADMIN",
    show_envvar=True,
    callback=_admin,
    help="Admin address: host:port or unix:/path.  [default: that of the configuration, else 127.0.0.1:9901]",
)
TOKEN = click.option(
    "--token-file",
    type=click.Path(dir_okay=False),
    envvar="STYX_TOKEN_FILE",
    show_envvar=True,
    help="File with the admin token; STYX_ADMIN_TOKEN may hold it, too.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON: the response of the admin API.")


def fail_with_faults(error: Exception) -> NoReturn:
    """Print why a configuration cannot be used, and exit 2."""
    fail(f"styx: {error}" if str(error).startswith("cannot read") else str(error), 2)


def command(admin: "AdminChoice", what: str, token_file: str | None) -> None:
    """Send a command, wait until it is carried out, and print its result; exit 1 when it failed."""
    status, body = ask(admin, f"/v1/{what}", token_file, body={}, timeout=130)
    result = decoded(admin, body)
    if not (isinstance(result.get("words"), list) or isinstance(result.get("detail"), str)):
        with foreign_content(admin):
            raise KeyError("neither a result nor an error")
    for line in result.get("words", [result.get("detail", body)]):
        click.echo(line, err=status != 200)
    if status != 200:
        sys.exit(1)


@contextmanager
def worker_replies(admin: "AdminChoice", status: int, body: str) -> Iterator[dict[str, Any]]:
    """The decoded response with the replies of those workers that replied. Afterwards: exit 1, saying which workers
    did not, or failed. Exit 1 at once when the response is an error, or nobody replied."""
    document = decoded(admin, body)
    if status != 200:
        fail(f"styx: {document.get('detail', body)}", 1)
    from edge.admin.admin_messages import WorkerReplies

    replies = record(admin, body, WorkerReplies)
    good = [raw for raw, reply in zip(document["workers"], replies.workers, strict=True) if not reply.error]
    faults = [f"styx: worker {reply.worker}: {reply.error}" for reply in replies.workers if reply.error]
    if replies.silent:
        silent = f"worker{'s' if len(replies.silent) > 1 else ''} {', '.join(map(str, replies.silent))}"
        faults.append(f"styx: no reply from {silent}: stuck, stopped or busy; see `styx top`, `styx support-dump`")
    if good or not faults:
        yield {**document, "workers": good}
    if faults:
        fail("\n".join(faults), 1)


def record(admin: "AdminChoice", body: str, kind: type[T]) -> T:
    """Decode a response of the admin server as a record; exit 1 when it is not one."""
    import msgspec

    with foreign_content(admin):
        return msgspec.json.decode(body, type=kind)


@contextmanager
def foreign_content(admin: "AdminChoice") -> Iterator[None]:
    """Exit 1 when the content of a response is not what an admin server of styx sends."""
    from edge.run.admin_client import no_admin_server

    try:
        yield
    except (ValueError, TypeError, LookupError):
        fail(f"styx: {no_admin_server(str(admin))}", 1)


def fail(text: str, code: int) -> NoReturn:
    """Print a message on standard error, and exit with this code."""
    click.echo(text, err=True)
    sys.exit(code)


def ask(
    admin: "AdminChoice",
    path: str,
    token_file: str | None = None,
    *,
    body: dict[str, Any] | None = None,
    timeout: float = 5,
) -> tuple[int, str]:
    """GET from the admin server of a running styx, or POST a body to it; exit 1 when it cannot be reached or denies
    access. Returns status and body of the response."""
    from edge.run import admin_client

    try:
        return admin_client.ask(endpoint(admin, token_file, timeout), path, body)
    except admin_client.AdminFailed as error:
        fail(f"styx: {error}", 1)


def document_at(admin: "AdminChoice", path: str, token_file: str | None) -> str:
    """The JSON document at this path of the admin API; exit 1 when it is not to be had."""
    status, body = ask(admin, path, token_file)
    if status != 200:
        fail(f"styx: {decoded(admin, body).get('detail', body)}", 1)
    return body


def endpoint(admin: "AdminChoice", token_file: str | None, timeout: float = 5) -> "AdminEndpoint":
    """The admin server of a running styx; exit 2 when the address or the token file is wrong."""
    from edge.run.admin_client import AdminEndpoint

    return AdminEndpoint(str(admin), admin_address(admin.address, str(admin)), _read_token(token_file), timeout)


def decoded(admin: "AdminChoice", body: str) -> dict[str, Any]:
    """Decode a JSON response of the admin server; exit 1 when it is not one."""
    from edge.run.admin_client import AdminFailed, document

    try:
        return document(str(admin), body)
    except AdminFailed as error:
        fail(f"styx: {error}", 1)


def _read_token(file: str | None) -> str:
    from edge.net.secret_files import SecretFileError, read_secret

    try:
        return read_secret(file) or os.environ.get("STYX_ADMIN_TOKEN", "").strip()
    except SecretFileError as error:
        fail(f"styx: --token-file: {error}", 2)


def admin_address(text: str, name: str = "") -> "Address":
    """Parse an address; exit 2 when it is none. `name`: what messages call it, if not as it is."""
    from edge.rules.settings.values import address

    try:
        return address(text)
    except ValueError as error:
        fail(f"styx: {name or text}: {error}", 2)
