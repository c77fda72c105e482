"""`styx pages`: previews the error pages."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from edge.run.commands.command_parts import config_option, fail, fail_with_faults

if TYPE_CHECKING:
    from edge.rules.pages.page_table import PageTable

MOST_PREVIEWED = 20_000
"Files that one preview writes at most."
MADE = "<!-- made by styx pages preview -->"
"The last line of an index: its directory may be written to again."

CONFIG = config_option("Configuration file that names the directory of templates.")
TEMPLATES = click.option(
    "--templates", type=click.Path(file_okay=False), help="Directory of templates, instead of pages.directory."
)
SITE = click.option("--site", default="", help="As a site of this name gets it.")


@click.group(short_help="Look at the error pages that browsers get.")
def pages() -> None:
    """Look at the error pages that browsers get: one of them, or all."""


@pages.command()
@click.argument("reason")
@click.option(
    "--lang", default="", help="What the client sends as Accept-Language, such as de or 'de-AT, en;q=0.5'."
)
@SITE
@TEMPLATES
@CONFIG
def render(reason: str, lang: str, site: str, templates: str | None, config: str | None) -> None:
    """Print the page for a REASON of X-Styx-Error, or for a status; on standard error, the name of its template.

    Exits 1 if a template has a fault, though there is a page all the same.
    """
    from edge.rules.nearest_names import nearest_names
    from edge.rules.pages.page_preview import EXAMPLES, previewed_page

    cause = next((c for (known, status), c in sorted(EXAMPLES.items()) if reason in (known, str(status))), None)
    if cause is None:
        near = nearest_names(reason, [known for known, _ in EXAMPLES], 1)
        fail(f"styx: no error page has the reason {reason}" + (f"; did you mean {near[0]}?" if near else ""), 2)
    _, found, faults = _read(templates, config)
    page = previewed_page(found, cause, site, lang)
    click.echo(page.body, nl=False)
    click.echo(f"{page.status} {page.reason}: {page.template}", err=True)
    _end_with(faults)


@pages.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--lang", multiple=True, help="Only in this language; may be given several times.")
@click.option("--site", multiple=True, help="Only as this site gets them; may be given several times.")
@TEMPLATES
@CONFIG
def preview(
    directory: Path, lang: tuple[str, ...], site: tuple[str, ...], templates: str | None, config: str | None
) -> None:
    """Write all pages, by site, language and reason, into a DIRECTORY, and an index.html to look at them.

    The directory must be empty, new, or have a preview in it. Exits 1 if a template has a fault.
    """
    from edge.rules.pages.page_preview import EXAMPLES, languages_of, preview_index, previewed_pages

    origin, found, faults = _read(templates, config)
    languages = [one for one in dict.fromkeys(lang) if _is_language(one)] or languages_of(found)
    sites = site or ("", *found.sites)
    if unknown := [one for one in site if one not in found.sites]:
        fail(f"styx: there is no directory {origin or 'of templates'}/sites/{unknown[0]}", 2)
    count = len(languages) * len(sites) * len(EXAMPLES)
    if count > MOST_PREVIEWED:
        fail(f"styx: {count} pages, at most {MOST_PREVIEWED}: choose some with --site or --lang", 2)
    index = directory / "index.html"
    try:
        if directory.is_dir() and os.listdir(directory) and not _is_preview(index):
            fail(f"styx: {directory} is not empty, and has no preview in it", 2)
        shown = list(previewed_pages(found, sites, languages))
        for page in shown:
            path = directory / page.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(page.body)
        index.write_text(f"{preview_index(shown, origin or 'the built-in page')}{MADE}\n")
    except OSError as error:
        fail(f"styx: {error.strerror}: {error.filename}", 1)
    click.echo(f"{index}: {len(shown)} pages")
    _end_with(faults)


def _is_preview(index: Path) -> bool:
    return index.is_file() and index.read_text(errors="replace").endswith(f"{MADE}\n")


def _is_language(language: str) -> bool:
    """Whether it may be the name of a folder; if not, the command ends."""
    from edge.rules.pages.accept_language import LANGUAGE

    if not LANGUAGE.fullmatch(language):
        fail(f"styx: --lang {language} is no language tag, such as de or pt-BR", 2)
    return True


def _read(templates: str | None, config: str | None) -> tuple[str | None, "PageTable", list[str]]:
    """The directory of templates (None = there is none), what is in it, and the faults of it."""
    from edge.rules.pages.page_table import NO_PAGES, PageTable
    from edge.rules.pages.template_files import usable_pages
    from edge.run.pages.page_directory import read_pages

    directory = templates or _configured(config)
    if directory is None:
        return None, NO_PAGES, []
    try:
        checked = read_pages(directory, {})
    except OSError as error:
        fail(f"styx: {error.strerror or error}: {directory}", 1)
    faults = [fault.text(directory) for fault in checked.faults]
    return directory, PageTable(usable_pages(checked.files.items())), faults


def _configured(config: str | None) -> str | None:
    """`pages.directory`; None = it is not set, or there is no configuration."""
    from edge.run.configuration_file import BadConfiguration, ConfigurationFile
    from edge.run.installation.configuration_path import NoConfiguration, configuration_path

    try:
        return ConfigurationFile(configuration_path(config)).read()[1].pages.directory
    except NoConfiguration:
        return None
    except BadConfiguration as error:
        fail_with_faults(error)


def _end_with(faults: list[str]) -> NoReturn:
    for fault in faults:
        click.echo(fault, err=True)
    raise SystemExit(1 if faults else 0)
