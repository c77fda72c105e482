"""The effective settings: their values as in a file, and where each comes from."""

import yaml

from edge.rules.settings import Settings
from edge.rules.settings.effective import HIDDEN, effective_settings
from edge.rules.settings.file import parse
from edge.rules.settings.reference import render
from edge.rules.settings.section import fields_of

TEXT = """\
listeners:
  - address: "127.0.0.1:8080"
    backlog: 99
core_api: {url: "http://${API_HOST}:9900", token_file: "/run/${API_TOKEN}"}
timeouts:
  head: 250ms
demerits: {copies: false}
edge_name: "${EDGE:-one}"
forwarding: {trusted: ["10.0.0.0/8", "${PROXIES}"]}
"""
ENVIRON = {"API_HOST": "core.test", "API_TOKEN": "t0p", "PROXIES": "192.0.2.0/24"}


def shown(text=TEXT, environ=ENVIRON):
    settings = parse(text, name="styx.yaml", environ=environ)
    return {row.path: row for row in effective_settings(settings, text, name="styx.yaml")}


def test_each_setting_is_there_once_in_the_order_of_the_reference():
    rows = list(shown())
    plain = [path for path, _ in fields_of(Settings) if path != "listeners"]
    assert [path for path in rows if not path.startswith("listeners.")] == plain
    assert rows[0] == "listeners.0.address"


def test_where_a_value_comes_from():
    rows = shown()
    assert rows["timeouts.head"][1:4] == ("250ms", "file", "styx.yaml:6:3")
    assert rows["listeners.0.backlog"][1:4] == ("99", "file", "styx.yaml:3:5")
    assert rows["timeouts.deadline"][2:] == ("default", "", (), True)
    url = rows["core_api.url"]
    assert (url.value, url.source, url.variables) == ('"http://core.test:9900"', "environment", ("API_HOST",))
    assert (rows["edge_name"].value, rows["edge_name"].variables) == ('"one"', ("EDGE",))
    trusted = rows["forwarding.trusted"]
    assert (trusted.value, trusted.variables) == ('["10.0.0.0/8", "192.0.2.0/24"]', ("PROXIES",))


def test_a_setting_with_a_former_name_is_shown_under_its_new_one():
    row = shown()["demerits.shadow_probes"]
    assert row[1:4] == ("false", "file", "styx.yaml:7:12")


def test_what_a_secret_variable_holds_is_hidden():
    rows = shown()
    assert rows["core_api.token_file"].value == HIDDEN
    assert not any("t0p" in row.value for row in rows.values())


def test_values_are_written_as_in_a_file():
    """Given as they are shown, they are the same settings."""
    settings = parse(render(), name="styx.yaml", environ={})
    lines: dict[str, object] = {}
    for row in effective_settings(settings, render(), name="styx.yaml"):
        holder = lines
        *outer, last = row.path.split(".")
        for part in outer:
            holder = holder.setdefault(part, {})
        holder[last] = yaml.safe_load(row.value)
    lines["listeners"] = list(lines["listeners"].values())
    assert parse(yaml.safe_dump(lines), name="again.yaml", environ={}) == settings
