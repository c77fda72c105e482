"""Parses the text of a configuration file into Settings, or into a list of all its faults with their positions.

    text ─► node tree (YAML, with marks) ─► plain values, ${NAME} filled in ─► Settings (pydantic)
                    │                              │                               │
                    └──────────────────────────────┴───────────────────────────────┴──► faults

The node tree is read here and not by PyYAML's constructors, because those silently let the last of two equal keys
win, read 010 as 8 and 1:30 as 90, and lose the position of a value. pydantic then validates the values and names
the path of each fault; the message is chosen here, for readers who know styx and not pydantic.

Pure: the text and the environment are arguments. A reload parses, compares and swaps; a bad file changes nothing.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Final, TypeVar

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from edge.rules.settings.renamed import RENAMED, new_name
from edge.rules.settings.root import Settings
from edge.rules.settings.section import Section, section_of, unit_of
from edge.rules.settings.values import FROM_FILE, Address, FromEnvironment, address, described
from edge.rules.settings.yaml_text import (
    CONFIGURATION,
    MAX_DEPTH,
    START,
    FaultAt,
    FileLimits,
    KeyPath,
    Position,
    Wrong,
    check_text,
    position_at,
    tree,
)
from edge.rules.settings.yaml_text import MAX_BYTES as MAX_BYTES
from edge.rules.settings.yaml_text import MAX_VALUES as MAX_VALUES
from edge.rules.settings.yaml_text import Fault as Fault
from edge.rules.settings.yaml_text import SettingsError as SettingsError

S = TypeVar("S", bound=Section)


def parse(text: str, *, name: str, environ: Mapping[str, str], renamed: Mapping[str, str] = RENAMED) -> Settings:
    """Parse the text of a configuration file. `name`: the file's name in messages. `renamed`: new names of settings
    by their former ones. Raises SettingsError."""
    return parse_as(Settings, text, name=name, environ=environ, renamed=renamed)


def parse_as(
    kind: type[S],
    text: str,
    *,
    name: str,
    environ: Mapping[str, str],
    limits: FileLimits = CONFIGURATION,
    checked: bool = False,
    renamed: Mapping[str, str] | None = None,
) -> S:
    """Parse the text of a file of another kind, whose root is `kind`. `checked`: the text is a part of one that
    `yaml_events` has checked. Raises SettingsError."""
    reader = _Reader(environ, limits.values)
    try:
        if not checked:
            check_text(text, limits)
        values = reader.read(tree(text))
        if isinstance(values, dict):
            _use_new_names(reader, values, renamed or {})
        return _validated(reader, values, kind)
    except Wrong as wrong:
        raise wrong.in_file(name) from None


def admin_address_in(text: str, *, name: str, environ: Mapping[str, str]) -> Address | None:
    """The `admin.address` in a text whose other settings may have faults; None = it is not given. Raises
    SettingsError if the address, or the text as a whole, cannot be read."""
    reader = _Reader(environ, CONFIGURATION.values)
    path: KeyPath = ("admin", "address")
    try:
        check_text(text, CONFIGURATION)
        values = reader.read(tree(text))
        if isinstance(values, dict):
            _use_new_names(reader, values, RENAMED)
        holder = _holder(values, path) if isinstance(values, dict) else None
        if holder is None or "address" not in holder:
            return None
        if path in reader.broken:
            raise Wrong([fault for fault in reader.found if fault[1] == path])
        try:
            return address(str(holder["address"]))
        except ValueError as error:
            raise Wrong([(reader.nearest(path), path, str(error))]) from None
    except Wrong as wrong:
        raise wrong.in_file(name) from None


def former_names(text: str, *, name: str, renamed: Mapping[str, str] = RENAMED) -> tuple[Fault, ...]:
    """Settings with a former name in a text that `parse` accepts, each with its position and its new name."""
    reader = _Reader({}, CONFIGURATION.values)
    reader.read(tree(text))
    found = _former_names(reader, renamed).items()
    return tuple(Fault(name, reader.keys[old], "", f"{_path_text(old)} is called {new} now") for old, new in found)


def _use_new_names(reader: "_Reader", values: dict[str, object], renamed: Mapping[str, str]) -> None:
    """Move renamed settings to their new names: sections first, so that a renamed setting of a renamed section is
    found in the new one."""
    for old, new in sorted(_former_names(reader, renamed).items(), key=lambda row: len(row[0])):
        reader.move(values, old, _key_path(new))


def _former_names(reader: "_Reader", renamed: Mapping[str, str]) -> dict[KeyPath, str]:
    return {path: name for path in reader.keys if (name := new_name(path, renamed)) is not None}


def places_in(text: str) -> Callable[[str], Position]:
    """A function that gives the position of a setting, by its path such as `listeners.0.address`, in a text that
    `parse` accepts. For a setting that is not given, it is the position of the section that would contain it."""
    reader = _Reader({}, CONFIGURATION.values)
    values = reader.read(tree(text))
    if isinstance(values, dict):
        _use_new_names(reader, values, RENAMED)
    return lambda path: reader.nearest(_key_path(path))


class Origins:
    """Where the values in a text come from that `parse` accepts. Paths are as in `places_in`."""

    def __init__(self, keys: Mapping[KeyPath, Position], variables: Mapping[KeyPath, tuple[str, ...]]) -> None:
        self._keys = keys
        self._variables = variables

    def position(self, path: str) -> Position | None:
        """Where the setting is given; None = it is not, and has its default."""
        return self._keys.get(_key_path(path))

    def variables(self, path: str) -> tuple[str, ...]:
        """The environment variables that its value, or a part of it, is filled in from."""
        whole = _key_path(path)
        found = (names for key, names in self._variables.items() if key[: len(whole)] == whole)
        return tuple(dict.fromkeys(name for names in found for name in names))


def origins_in(text: str) -> Origins:
    """Where the values in a text come from that `parse` accepts."""
    reader = _Reader({}, CONFIGURATION.values)
    values = reader.read(tree(text))
    if isinstance(values, dict):
        _use_new_names(reader, values, RENAMED)
    return Origins(reader.keys, reader.variables)


def _path_text(path: KeyPath) -> str:
    return ".".join(map(str, path))


def _key_path(path: str) -> KeyPath:
    return tuple(int(part) if part.isdecimal() else part for part in path.split("."))


# Nodes to plain values -------------------------------------------------------------------------------------

_TAG = "tag:yaml.org,2002:"
_PLAIN_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_PLAIN_FLOAT = re.compile(r"[-+]?[0-9]{1,15}\.[0-9]{1,15}")
_TRUE = frozenset({"true", "yes", "on"})
_REFERENCE = re.compile(r"(?P<literal>\$\$\{)|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})?")

# Takes the place of a value that could not be read, so that it is not also reported as missing.
_BROKEN: Final = object()


class _Reader:
    """Converts nodes into dicts, tuples and scalars, and records their positions."""

    def __init__(self, environ: Mapping[str, str], most: int) -> None:
        self._environ = environ
        self._most = most
        self._open: set[int] = set()  # nodes that contain the current one: an alias to one of them would never end
        self.values: dict[KeyPath, Position] = {}
        self.keys: dict[KeyPath, Position] = {}
        self.broken: set[KeyPath] = set()
        self.variables: dict[KeyPath, tuple[str, ...]] = {}
        "Names of the environment variables in a value."
        self.found: list[FaultAt] = []

    def read(self, root: yaml.Node | None) -> object:
        if root is None:
            return {}
        if not isinstance(root, yaml.MappingNode):
            place = position_at(root.start_mark)
            raise Wrong([(place, (), "the file must be a mapping of sections, such as `listeners: …`")])
        return self._value(root, ())

    def nearest(self, path: KeyPath) -> Position:
        """Position of the value at `path`, or else of the nearest section that would contain it."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, START)

    def move(self, values: dict[str, object], old: KeyPath, new: KeyPath) -> None:
        """Move a renamed setting, with its positions, from its old to its new path."""
        holder = _holder(values, old)
        target = _holder(values, new)
        if holder is None or target is None or old[-1] not in holder:
            return
        value = holder.pop(str(old[-1]))
        if new in self.keys:
            words = f"{_path_text(old)} is called {_path_text(new)} now, which is given as well"
            self.found.append((self.keys[old], (), words))
            return
        target[str(new[-1])] = value
        for known in (self.keys, self.values):
            known |= {(*new, *path[len(old) :]): at for path, at in known.items() if path[: len(old)] == old}
        self.broken |= {(*new, *path[len(old) :]) for path in self.broken if path[: len(old)] == old}
        self.variables |= {
            (*new, *path[len(old) :]): names for path, names in self.variables.items() if path[: len(old)] == old
        }

    def _fault(self, node: yaml.Node, path: KeyPath, words: str) -> object:
        self.found.append((position_at(node.start_mark), path, words))
        self.broken.add(path)
        return _BROKEN

    def _value(self, node: yaml.Node, path: KeyPath) -> object:
        self.values[path] = position_at(node.start_mark)
        if len(self.values) > self._most:
            raise Wrong([(START, (), f"more than {self._most} values, with every alias written out")])
        if len(path) > MAX_DEPTH:
            raise Wrong([(position_at(node.start_mark), (), f"nested more than {MAX_DEPTH} deep, through aliases")])
        if id(node) in self._open:
            return self._fault(node, path, "an alias to something that contains it")
        kind = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, kind, path)
        if kind not in ("map", "seq"):
            return self._fault(node, path, f"the tag {node.tag} is not supported")
        self._open.add(id(node))
        value: object
        if isinstance(node, yaml.MappingNode):
            value = self._mapping(node, path)
        else:
            value = tuple(self._value(item, (*path, n)) for n, item in enumerate(node.value))
        self._open.discard(id(node))
        return value

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, object]:
        values: dict[str, object] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._fault(key_node, path, "a name must be plain text")
                continue
            key = str(key_node.value)
            inner = (*path, key)
            if key_node.tag == f"{_TAG}merge":
                self._fault(key_node, inner, "merge keys are not supported")
            elif inner in self.keys:
                self._fault(key_node, inner, f"given twice; the first is in line {self.keys[inner].line}")
            else:
                self.keys[inner] = position_at(key_node.start_mark)
                values[key] = self._value(value_node, inner)
        return values

    def _scalar(self, node: yaml.ScalarNode, kind: str, path: KeyPath) -> object:
        text = str(node.value)
        if "${" in text:
            return self._filled_in(node, path)
        match kind:
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() in _TRUE
            case "int" if _PLAIN_INT.fullmatch(text):
                return int(text)
            case "float" if _PLAIN_FLOAT.fullmatch(text):
                return float(text)
            case "int" | "float":
                words = f"YAML takes {text} for a number: write plain decimals, or quote text"
            case "timestamp":
                words = f"YAML takes {text} for a date: put it in quotes"
            case _:
                words = f"the tag {node.tag} is not supported"
        return self._fault(node, path, words)

    def _filled_in(self, node: yaml.ScalarNode, path: KeyPath) -> object:
        def replacement(reference: re.Match[str]) -> str:
            if reference["literal"]:
                return "${"
            name, default = reference["name"], reference["default"]
            if name is None:
                words = "${ must go on with NAME} or NAME:-default}; a plain ${ is written $${"
            elif default is not None:
                # As in a shell, :- also replaces a variable that is set but empty.
                return self._environ.get(name) or default
            elif name in self._environ:
                return self._environ[name]
            else:
                words = f"the environment variable {name} is not set; ${{{name}:-default}} would give a default"
            self._fault(node, path, words)
            return ""

        names = (reference["name"] for reference in _REFERENCE.finditer(node.value))
        self.variables[path] = tuple(name for name in names if name)
        text = FromEnvironment(_REFERENCE.sub(replacement, node.value))
        return _BROKEN if path in self.broken else text


def _holder(values: dict[str, object], path: KeyPath) -> dict[str, object] | None:
    """The mapping that contains the last part of a path; it is created if missing. None = there is another
    value."""
    found: object = values
    for part in path[:-1]:
        if isinstance(part, str) and isinstance(found, dict):
            found = found.setdefault(part, {})
        elif isinstance(part, int) and isinstance(found, tuple) and part < len(found):
            found = found[part]
        else:
            return None
    return found if isinstance(found, dict) else None


# Plain values to settings ----------------------------------------------------------------------------------


def _validated(reader: _Reader, values: object, kind: type[S]) -> S:
    found = reader.found
    try:
        settings = kind.model_validate(values, context=FROM_FILE)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            for path, words in _explained(details, kind):
                if details["type"] == "extra_forbidden":
                    found.append((reader.keys[path], path, words))
                elif path not in reader.broken:
                    found.append((reader.nearest(path), path, words))
        raise Wrong(found) from None
    if found:
        raise Wrong(found)
    return settings


def _explained(details: ErrorDetails, root: type[Section]) -> Iterator[tuple[KeyPath, str]]:
    """The message for one pydantic error: one fault, or several if settings contradict each other."""
    path, given, context = details["loc"], details["input"], details.get("ctx", {})
    match details["type"]:
        case "contradictory":
            for name, words in context["faults"]:
                yield (*path, *_key_path(name)), words
        case "extra_forbidden":
            yield path, _unknown(path, root)
        case "missing":
            yield path, "required, but not given"
        case "greater_than_equal":
            yield (
                path,
                f"must be at least {_as_written(path, context['ge'], root)}, not {_as_written(path, given, root)}",
            )
        case "less_than_equal":
            yield (
                path,
                f"must be at most {_as_written(path, context['le'], root)}, not {_as_written(path, given, root)}",
            )
        case "literal_error":
            yield path, f"must be one of {context['expected']}, not {described(given)}"
        case "tuple_type":
            yield path, f"must be a list, not {described(given)}"
        case "too_short" | "string_too_short":
            if not given:  # else: faulty members were left out, and are reported themselves
                yield path, "must not be empty"
        case "bool_type":
            yield path, f"must be true or false, not {described(given)}"
        case "model_type":
            yield path, f"must be a mapping (name: value), not {described(given)}"
        case _:
            yield path, details["msg"]


def _field(path: KeyPath, root: type[Section]) -> FieldInfo | None:
    section: type[Section] | None = root
    field = None
    for part in path:
        if section is not None and isinstance(part, str):
            field = section.model_fields.get(part)
            section = section_of(field.annotation) if field else None
    return field


def _as_written(path: KeyPath, value: float, root: type[Section]) -> str:
    """A number with the unit of its setting."""
    field = _field(path, root)
    unit = unit_of(field) if field else None
    return unit.text(value) if unit else str(value)


ALIKE_ELSEWHERE: Final = 0.85
"Least ratio of a name in another section: `file` is not `drain.idle` (0.75), `upstream` no `streams` (0.8)."


def _unknown(path: KeyPath, root: type[Section]) -> str:
    """The message for an unknown name. It suggests the most similar name in the section, else in another one."""
    name = str(path[-1])
    field = _field(path[:-1], root)
    section = section_of(field.annotation) if field else root
    elsewhere = {
        written: f"{outer}.{inner_name}"
        for outer, holder in reversed(root.model_fields.items())
        for inner_name in getattr(section_of(holder.annotation), "model_fields", ())
        for written in (inner_name, f"{outer}_{inner_name}")
    }
    near = get_close_matches(name, section.model_fields if section else (), n=1)
    if not near:
        near = [elsewhere[found] for found in get_close_matches(name, elsewhere, n=1, cutoff=ALIKE_ELSEWHERE)]
    return f"unknown setting; did you mean {near[0]}?" if near else "unknown setting"
