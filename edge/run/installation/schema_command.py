"""The command `styx schema`."""

import click


@click.command(short_help="Print a schema of the configuration, for editors.")
@click.argument("what", type=click.Choice(["configuration", "routes", "core-api"]), default="configuration")
def schema(what: str) -> None:
    """Print the JSON Schema of the configuration or of a file of routes, for editors; or the OpenAPI description of
    the core API.

    An editor with a language server for YAML checks a configuration as you type if its first line names the schema:

        # yaml-language-server: $schema=styx.schema.json
    """
    if what == "core-api":
        from edge.run.core_api_check.core_api_description import core_api_description

        click.echo(core_api_description(), nl=False)
    elif what == "routes":
        from edge.rules.route_sets.route_file import SomeRoutes
        from edge.rules.settings.schema.json_schema import file_schema, rendered_schema

        click.echo(rendered_schema(file_schema(SomeRoutes, "Routes of styx")), nl=False)
    else:
        from edge.rules.settings.schema.json_schema import rendered_schema

        click.echo(rendered_schema(), nl=False)
