"""`styx config show`: the effective settings, and where each comes from."""

from typing import TYPE_CHECKING

import click

from edge.run.commands.command_parts import ADMIN, AS_JSON, TOKEN, document_at, fail, fail_with_faults, record

if TYPE_CHECKING:
    from edge.admin.admin_messages import Configuration
    from edge.run.installation.admin_choice import AdminChoice


@click.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@click.argument("prefix", default="")
@click.option(
    "-c", "--config", "file", type=click.Path(dir_okay=False), help="Of this file, not of the running styx."
)
@click.option("--given", is_flag=True, help="Only settings that are not left at their default.")
@ADMIN
@TOKEN
@AS_JSON
def show(
    prefix: str, file: str | None, given: bool, admin: "AdminChoice", token_file: str | None, as_json: bool
) -> None:
    """Show the effective settings of a running styx, or of a file: all, or those that begin with PREFIX, such as
    `timeouts`; each with its value and where it comes from. Secrets are hidden."""
    import msgspec

    found = _of_file(file) if file is not None else _of_running(admin, token_file)
    chosen = [s for s in found.settings if s.path.startswith(prefix) and not (given and s.source == "default")]
    if not chosen and prefix:
        from edge.rules.nearest_names import nearest_names

        near = nearest_names(prefix, [setting.path for setting in found.settings])
        fail(f"styx: no setting begins with {prefix}{f'; did you mean {near[0]}?' if near else ''}", 1)
    if as_json:
        click.echo(msgspec.json.encode(msgspec.structs.replace(found, settings=chosen)))
        return
    for setting in chosen:
        origin = setting.place or setting.source
        variables = f" ({', '.join(f'${{{name}}}' for name in setting.variables)})" if setting.variables else ""
        click.echo(f"{setting.path:<36} {setting.value:<28} {origin}{variables}")
    if found.changed_since:
        click.echo(f"\n{found.file} has changed since: `styx check -c {found.file}`, then `styx reload`", err=True)


def _of_running(admin: "AdminChoice", token_file: str | None) -> "Configuration":
    from edge.admin.admin_messages import Configuration

    return record(admin, document_at(admin, "/v1/config", token_file), Configuration)


def _of_file(path: str) -> "Configuration":
    from edge.run.commands.configuration_report import configuration
    from edge.run.configuration_file import BadConfiguration, ConfigurationFile, ConfigurationText

    try:
        text, settings = ConfigurationFile(path).read()
    except BadConfiguration as error:
        fail_with_faults(error)
    return configuration(settings, ConfigurationText(path, text), changed_since=False)
