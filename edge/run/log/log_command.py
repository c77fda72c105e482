"""The command `styx log`: shows the access log, filtered and in colour."""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from edge.admin.log.log_reader import LogFilter


@click.command("log", short_help="Show the access log for people.")
@click.argument("file", default="")
@click.option("-f", "--follow", is_flag=True, help="Go on as it grows, also after a rotation, until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="The last lines only; with -f 10 by default.")
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="Of this hostname; *.example.org is possible.")
@click.option("--site", "sites", multiple=True, metavar="SITE", help="Of this site.")
@click.option("--cause", "causes", multiple=True, metavar="CAUSE", help="That ended so, such as connect_failed.")
@click.option("--status", "statuses", multiple=True, metavar="STATUS", help="With this status: 404, 5xx, 500-503.")
@click.option("--slower-than", default="0", metavar="DURATION", help="That took longer, such as 500ms.")
@click.option("--json", "as_json", is_flag=True, help="The lines as they are.")
@click.option("--color/--no-color", default=None, help="Colours; by default in a terminal.")
@click.option(
    "-c",
    "--config",
    type=click.Path(dir_okay=False),
    envvar="STYX_CONFIG",
    show_envvar=True,
    help="Configuration that names the access log, if FILE is not given.  [default: /etc/styx/styx.yaml, else "
    "./styx.yaml]",
)
def read_log(
    file: str,
    follow: bool,
    lines: int | None,
    hosts: tuple[str, ...],
    sites: tuple[str, ...],
    causes: tuple[str, ...],
    statuses: tuple[str, ...],
    slower_than: str,
    as_json: bool,
    color: bool | None,
    config: str | None,
) -> None:
    """Show the access log (FILE, - for standard input, or that of the configuration), a line for each request.

    Each filter may be given several times: a line is shown if it passes one of each kind."""
    from edge.admin.log.log_reader import BadFilter

    try:
        log = ChosenLines(_filter(hosts, sites, causes, statuses, slower_than), as_json=as_json)
    except BadFilter as error:
        _fail(str(error), 2)
    path = file or _path_in(config)
    count = lines if lines is not None else 10 if follow else None
    with suppress(KeyboardInterrupt):
        try:
            for line in _shown(log, path, follow=follow, count=count):
                click.echo(line, color=color)
        except OSError as error:
            if error.filename is None:  # not the file: the reader of our output has left
                raise
            _fail(f"cannot read {path}: {error.strerror}", 1)
    if log.unreadable and not log.readable:
        _fail(f"{path}: no line of JSON or logfmt of an access log; combined cannot be read (access_log.format)", 1)


class ChosenLines:
    """Chooses lines and renders them; counts those that could be read."""

    def __init__(self, wanted: "LogFilter", *, as_json: bool) -> None:
        self._wanted = wanted
        self._as_json = as_json
        self.readable = 0
        self.unreadable = 0

    def of(self, lines: Iterable[bytes]) -> Iterator[str]:
        """Those that pass the filter. What is no line of an access log is left out."""
        from edge.admin.log.log_reader import parse_line, rendered

        for line in lines:
            record = parse_line(line)
            if record is None or not ("status" in record or "host" in record):
                self.unreadable += bool(line)
                continue
            self.readable += 1
            if not self._wanted.takes(record):
                continue
            if self._as_json:
                yield line.decode("utf-8", "replace")
            else:
                yield "".join(
                    click.style(text, fg=_COLOURS.get(look), bold=look == "bold" or None)
                    for text, look in rendered(record)
                )


_COLOURS = {name: name for name in ("bright_black", "green", "cyan", "yellow", "red", "magenta")}


def _shown(log: ChosenLines, path: str, *, follow: bool, count: int | None) -> Iterator[str]:
    """The last `count` lines that pass (None = all), then those that come."""
    from edge.run.log.log_follower import LogFollower, lines_of

    if path == "-":
        found = log.of(lines_of(sys.stdin.buffer))
        yield from found if follow else _last(found, count)
        return
    with LogFollower(path) as follower:
        yield from _last(log.of(follower.all() if count is None else follower.last()), count)
        if follow:
            yield from log.of(follower.follow())


def _last(lines: Iterable[str], count: int | None) -> Iterable[str]:
    return lines if count is None else deque(lines, maxlen=count)


def _filter(
    hosts: tuple[str, ...],
    sites: tuple[str, ...],
    causes: tuple[str, ...],
    statuses: tuple[str, ...],
    slower_than: str,
) -> "LogFilter":
    """Raises BadFilter."""
    from edge.admin.log import log_reader
    from edge.rules.nearest_names import nearest_names
    from edge.rules.outcomes import Cause
    from edge.rules.settings.values import seconds

    known = [cause.value for cause in Cause]
    for cause in causes:
        if cause not in known:
            near = nearest_names(cause, known, 1)
            hint = f": did you mean {near[0]}?" if near else "; docs/contracts.md lists them"
            raise log_reader.BadFilter(f"--cause {cause} is no cause{hint}")
    try:
        least_ms = seconds(slower_than) * 1000
    except ValueError as error:
        raise log_reader.BadFilter(f"--slower-than {error}") from None
    return log_reader.LogFilter(
        tuple(host.lower() for host in hosts),
        frozenset(causes),
        tuple(log_reader.statuses(status) for status in statuses),
        frozenset(sites),
        least_ms,
    )


def _path_in(given: str | None) -> str:
    """The file of the access log that the configuration names; exits if there is none."""
    from edge.run.configuration_file import BadConfiguration, ConfigurationFile
    from edge.run.installation.configuration_path import NoConfiguration, configuration_path

    try:
        config = configuration_path(given)
        _, settings = ConfigurationFile(config).read()
    except (BadConfiguration, NoConfiguration) as error:
        _fail(f"{error}; or name the file of the access log: styx log FILE", 2)
    path = settings.access_log.path
    if not path or settings.access_log.syslog is not None:
        _fail(f"{config} writes no file of the access log: access_log.path is {path or 'empty'}", 2)
    if path == "-" and sys.stdin.isatty():
        _fail("the access log goes to standard output: styx serve | styx log -f -, or styx log FILE", 2)
    return path


def _fail(text: str, code: int) -> NoReturn:
    click.echo(f"styx: {text}", err=True)
    sys.exit(code)
