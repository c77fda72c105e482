"""The JSON Schema of the configuration agrees with what styx itself accepts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from edge.rules.route_sets.route_file import SomeRoutes, destinations_in
from edge.rules.settings import Settings
from edge.rules.settings.file import SettingsError, parse
from edge.rules.settings.schema.json_schema import file_schema, rendered_schema, settings_schema
from edge.rules.settings.section import fields_of, section_of
from edge.rules.settings.values import FROM_FILE

ROOT = Path(__file__).parents[2]
SCHEMA = settings_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
SMALLEST: dict[str, Any] = {
    "listeners": [{"address": "127.0.0.1:8080"}],
    "core_api": {"url": "http://127.0.0.1:9900"},
}
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, 5, -1, 443, 70_000, 10**9, 0.25, 1.5),
    *("trusted", "required"),
    *(
        "",
        "0",
        "x",
        "auto",
        "5",
        "250ms",
        "5s",
        "1.5h",
        "1d",
        "5 s",
        "64KiB",
        "1MiB",
        "10MiB",
        "1kb",
    ),
    *(
        "127.0.0.1:80",
        ":80",
        "[::1]:80",
        "::1:80",
        "unix:/run/x",
        "unix:x",
        "http://a:1/b",
        "https://b",
        "file:/a/b",
    ),
    *(
        "file:a",
        "file://a",
        "ftp://a",
        "http://u:p@a",
        "http://a?b",
        "redis://a:1/0",
        "unix:///a",
        "core_api",
        "json",
    ),
    *(
        "modern",
        "websocket",
        "always",
        "warning",
        "two words",
        "a\0b",
        "a.example.org",
        "{id}.a",
        "-",
        "syslog:/dev/log",
    ),
    *([], ["10.0.0.0/8"], ["10.0.0.1/8"], ["fd00::/8", "10.0.0.1"], ["x"], [5], {}, {"a": 1}),
)


def is_accepted(document: Any) -> bool:
    """Whether styx accepts it. Settings that contradict each other are no matter of the schema."""
    try:
        parse(yaml.safe_dump(document), name="x", environ={})
    except SettingsError:
        return False
    return True


def is_accepted_fast(document: Any) -> bool:
    """The same without YAML, so without ${NAME}."""
    try:
        Settings.model_validate(as_read(document), context=FROM_FILE)
    except ValidationError:
        return False
    return True


def as_read(value: Any) -> Any:
    """Lists of a file are read as tuples."""
    if isinstance(value, dict):
        return {name: as_read(inner) for name, inner in value.items()}
    return tuple(as_read(inner) for inner in value) if isinstance(value, list) else value


def schema_of(path: str) -> dict[str, Any]:
    """The schema of one setting."""
    schema: dict[str, Any] = SCHEMA
    for part in path.split("."):
        schema = schema["items"] if part.isdecimal() else schema["properties"][part]
    return schema


def settings() -> Iterator[tuple[str, FieldInfo]]:
    yield from fields_of(Settings)
    listener = section_of(Settings.model_fields["listeners"].annotation)
    assert listener is not None
    yield from fields_of(listener, "listeners.0.")


def with_value(path: str, value: Any) -> dict[str, Any]:
    document: Any = json.loads(json.dumps(SMALLEST))
    inner = document
    *sections, name = path.split(".")
    for section in sections:
        inner = inner[int(section)] if section.isdecimal() else inner.setdefault(section, {})
    inner[name] = value
    return document


def test_the_file_is_up_to_date() -> None:
    made = "styx schema > config/styx.schema.json"
    assert (ROOT / "config" / "styx.schema.json").read_text() == rendered_schema(), f"write it anew: {made}"


def test_it_is_a_schema_that_knows_every_setting() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    for path, field in settings():
        inner = schema_of(path)
        if section_of(field.annotation) is None:
            assert inner["description"], path
            assert field.is_required() or "default" in inner, path


@pytest.mark.parametrize("name", ["styx.yaml", "demo.yaml"])
def test_our_files_are_valid_and_name_it(name: str) -> None:
    text = (ROOT / "config" / name).read_text()
    assert text.startswith("# yaml-language-server: $schema=styx.schema.json\n")
    VALIDATOR.validate(yaml.safe_load(text))


@pytest.mark.parametrize("path", [path for path, _ in settings()])
def test_what_it_rejects_styx_rejects(path: str) -> None:
    accepted, validator = 0, jsonschema.Draft7Validator(schema_of(path))
    for value in VALUES:
        if is_accepted_fast(with_value(path, value)):
            accepted += 1
            assert validator.is_valid(value), f"{path}: {value!r} is good for styx"
    assert accepted or path in ("access_log.facility", "listeners"), "no value of the list is legal"


BAD = {
    "an unknown section": "pol: {}",
    "an unknown setting": "pool: {idle_timeuot: 30s}",
    "a duration without a unit": "watchdog: 5",
    "a duration with a wrong unit": "watchdog: 5sec",
    "a size without a unit": "limits: {head: 65536}",
    "a size of another system": "limits: {head: 64kB}",
    "text for a number": "limits: {fields: many}",
    "a number as text": 'limits: {fields: "5"}',
    "a number below its bound": "limits: {streams: 0}",
    "a number above its bound": "limits: {streams: 10001}",
    "a fraction out of bounds": "routes: {jitter: 0.6}",
    "a fraction at an open bound": "limits: {slots_per_client: 0}",
    "no workers": "workers: 0",
    "text for a flag": "demerits: {shadow_probes: maybe}",
    "another word than those of a choice": "log: {level: verbose}",
    "a number for text": "user: 5",
    "no network": "forwarding: {trusted: [everybody]}",
    "no list": "forwarding: {trusted: 10.0.0.0/8}",
    "an address without a port": "admin: {address: 127.0.0.1}",
    "an empty path": 'admin: {token_file: ""}',
    "a list for a section": "pool: []",
    "a source of certificates": "tls: {certificates: files}",
    "a bad name": "edge_name: two words",
}


@pytest.mark.parametrize("name", BAD)
def test_faults_that_both_find(name: str) -> None:
    document = {**SMALLEST, **yaml.safe_load(BAD[name])}
    assert not is_accepted(document)
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("document", [{}, {"listeners": []}, {"core_api": {"url": "http://a"}}, [], None, "x"])
def test_what_is_required_is_required_by_both(document: Any) -> None:
    assert not is_accepted(document)
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("path", ["watchdog", "workers", "log.level", "demerits.shadow_probes", "admin.address"])
def test_values_of_the_environment_are_good_for_the_schema(path: str) -> None:
    assert VALIDATOR.is_valid(with_value(path, "${NAME:-5s}"))


def test_a_section_of_comments_is_good() -> None:
    document = {**SMALLEST, "pool": None}
    assert is_accepted(document)
    assert VALIDATOR.is_valid(document)


ROUTES = jsonschema.Draft7Validator(file_schema(SomeRoutes, "Routes"))
BACKEND: dict[str, Any] = {"address": "10.4.7.12:80"}
ENTRIES: list[tuple[dict[str, Any], bool]] = [
    ({"hostnames": ["a.example"], "backends": [BACKEND]}, True),
    ({"hostnames": ["*.a.example", "*"], "backends": [{"address": "unix:/run/a.sock", "state": "asleep"}]}, True),
    ({"hostnames": ["a.example"], "redirect": "https://b.example", "maintenance": True}, True),
    ({"hostnames": ["a.example"], "backends": None}, False),
    ({"hostnames": []}, False),
    ({"backends": [BACKEND]}, False),
    ({"hostnames": "a.example"}, False),
    ({"hostnames": ["a.example"], "environment": ""}, False),
    ({"hostnames": ["a.example"], "site": "x" * 256}, False),
    ({"hostnames": ["a.example"], "backends": [{}]}, False),
    ({"hostnames": ["a.example"], "backends": [{"address": "10.4.7.12"}]}, False),
    ({"hostnames": ["a.example"], "backends": [{**BACKEND, "role": "first"}]}, False),
    ({"hostnames": ["a.example"], "backends": [{**BACKEND, "weight": 5}]}, False),
]


@pytest.mark.parametrize(("entry", "is_good"), ENTRIES)
def test_a_file_of_routes_has_a_schema_too(entry: dict[str, Any], is_good: bool) -> None:
    document = {"routes": [entry]}
    assert ROUTES.is_valid(document) is is_good
    try:
        destinations_in(yaml.safe_dump(document), name="routes.yaml")
    except SettingsError:
        assert not is_good
    else:
        assert is_good
