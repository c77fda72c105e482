"""`styx pages`: one page, all pages, and what is wrong with templates."""

import re

import pytest
from click.testing import CliRunner

from edge.rules.pages.page_preview import EXAMPLES
from edge.rules.pages.translations.known_translations import TRANSLATIONS
from edge.run.cli import main

CONFIG = """\
listeners: [{{address: "127.0.0.1:0"}}]
core_api: {{url: "http://127.0.0.1:9"}}
admin: {{address: "127.0.0.1:0"}}
pages: {{directory: "{pages}"}}
"""


@pytest.fixture
def templates(tmp_path):
    directory = tmp_path / "pages"
    (directory / "sites" / "shop").mkdir(parents=True)
    (directory / "404.html").write_text("<p>$reason")
    (directory / "404.de.html").write_text("<p>deutsch $status")
    (directory / "sites" / "shop" / "maintenance.html").write_text("$site is closed")
    return directory


@pytest.fixture
def config(tmp_path, templates):
    path = tmp_path / "styx.yaml"
    path.write_text(CONFIG.format(pages=templates))
    return path


def call(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.mark.parametrize(
    ("args", "page", "told"),
    [
        (["unknown_host"], "<p>unknown_host", "404 unknown_host: 404.html"),
        (["404"], "<p>unknown_host", "404 unknown_host: 404.html"),
        (["unknown_host", "--lang", "de-AT, en;q=0.5"], "<p>deutsch 404", "404 unknown_host: 404.de.html"),
        (["maintenance", "--site", "shop"], "shop is closed", "503 maintenance: sites/shop/maintenance.html"),
    ],
)
def test_one_page(config, args, page, told):
    ran = call("pages", "render", *args, "-c", config)
    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, page, f"{told}\n")


def test_the_built_in_page_needs_no_template(tmp_path):
    ran = call("pages", "render", "maintenance", "--templates", tmp_path)
    assert ran.exit_code == 0
    assert ran.stdout.startswith("<!doctype html>")
    assert ran.stderr == "503 maintenance: built in\n"


def test_what_is_no_reason(config):
    ran = call("pages", "render", "unknown_hots", "-c", config)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == "styx: no error page has the reason unknown_hots; did you mean unknown_host?\n"


def test_all_pages_and_their_index(config, tmp_path):
    out = tmp_path / "out"
    for _ in range(2):  # again, over the former one
        ran = call("pages", "preview", out, "-c", config)
        count = 2 * len(TRANSLATIONS) * len(EXAMPLES)
        assert (ran.exit_code, ran.stdout, ran.stderr) == (0, f"{out}/index.html: {count} pages\n", "")
        assert len(list(out.rglob("*.html"))) == 1 + count
    assert (out / "common" / "de" / "404-unknown_host.html").read_text() == "<p>deutsch 404"
    assert (out / "sites" / "shop" / "en" / "503-maintenance.html").read_text() == "shop is closed"
    links = re.findall(r'<a href="([^"]+)"', (out / "index.html").read_text())
    assert len(links) == count
    assert all((out / link).is_file() for link in links)


def test_some_pages(config, tmp_path):
    out = tmp_path / "out"
    ran = call("pages", "preview", out, "--lang", "fr", "--site", "shop", "-c", config)
    assert (ran.exit_code, len(list(out.rglob("*.html")))) == (0, 1 + len(EXAMPLES))
    for wrong, told in [(["--site", "../x"], "there is no directory"), (["--lang", "../x"], "no language tag")]:
        ran = call("pages", "preview", out, *wrong, "-c", config)
        assert ran.exit_code == 2
        assert told in ran.stderr


def test_nothing_of_somebody_else_is_overwritten(config, tmp_path):
    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "index.html").write_text("mine")
    ran = call("pages", "preview", tmp_path / "www", "-c", config)
    assert (ran.exit_code, ran.stderr) == (2, f"styx: {tmp_path}/www is not empty, and has no preview in it\n")
    assert (tmp_path / "www" / "index.html").read_text() == "mine"


def test_faults_are_told_and_the_other_pages_are_made_all_the_same(config, templates, tmp_path):
    (templates / "5xx.html").write_text("<p>\n<b>$hostnam")
    fault = f"{templates}/5xx.html:2:4: unknown name $hostnam: did you mean $hostname?"
    for args in (["render", "404"], ["preview", tmp_path / "out"]):
        ran = call("pages", *args, "-c", config)
        assert (ran.exit_code, ran.stderr.splitlines()[-1]) == (1, fault)
    assert (tmp_path / "out" / "index.html").is_file()
    checked = call("check", "-c", config)
    assert checked.exit_code == 0, "the built-in pages are served in their place"
    assert checked.stderr == f"warning: {config}:4:20: pages.directory: {fault}\n"
    (templates / "5xx.html").unlink()
    assert call("check", "-c", config).exit_code == 0


def test_check_reports_a_directory_that_is_not_there(config, templates):
    templates.rename(templates.with_name("away"))
    checked = call("check", "-c", config)
    assert checked.exit_code == 0, "the built-in pages are served in their place"
    assert checked.stderr == f"warning: {config}:4:20: pages.directory: No such file or directory: {templates}\n"
    ran = call("pages", "render", "404", "-c", config)
    assert (ran.exit_code, ran.stderr) == (1, f"styx: No such file or directory: {templates}\n")
