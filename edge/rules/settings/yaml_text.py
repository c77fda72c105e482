"""Safe parsing of one YAML document, with the position of each fault.

The events of PyYAML's parser are checked before a tree is built from them, because a few bytes of text can stand
for millions of values, or be nested so deep that the parser crashes. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import yaml

MAX_BYTES: Final = 1 << 20
MAX_VALUES: Final = 20_000
# Real files are 3 levels deep. PyYAML's C composer recurses on the C stack: 100,000 brackets crash the process.
MAX_DEPTH: Final = 32

KeyPath = tuple[str | int, ...]
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Position(NamedTuple):
    """A position in the file, counted from 1 as editors do."""

    line: int
    column: int


START = Position(1, 1)


class FileLimits(NamedTuple):
    """Limits of the size of a file."""

    bytes: int = MAX_BYTES
    "Bytes in UTF-8."
    values: int = MAX_VALUES
    'Values with all aliases expanded: aliases of aliases double them each time ("billion laughs").'


CONFIGURATION = FileLimits()


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a configuration file. The path is empty if the fault is not about one setting."""

    file: str
    position: Position
    path: str
    words: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.position.line}:{self.position.column}"
        return f"{where}: {self.path}: {self.words}" if self.path else f"{where}: {self.words}"


class SettingsError(Exception):
    """An invalid configuration, with all its faults in the order of the file."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


def position_of(event: yaml.Event) -> Position:
    """The position at which an event begins."""
    return position_at(event.start_mark)


def yaml_events(text: str, *, name: str, limits: FileLimits = CONFIGURATION) -> Iterator[yaml.Event]:
    """The parser events of the text of one document. No tree is built, so a large file costs no memory.

    Raises SettingsError, with the position, if the text is not YAML, too large, or nested too deep."""
    try:
        _refuse_large(text, limits)
        yield from _checked_events(text)
    except Wrong as wrong:
        raise wrong.in_file(name) from None


FaultAt = tuple[Position, KeyPath, str]
"Position, path of the setting (empty: none), and message."


class Wrong(Exception):
    """The faults of a text, without the name of its file."""

    def __init__(self, found: list[FaultAt]) -> None:
        super().__init__(found)
        self.found = found

    def in_file(self, name: str) -> SettingsError:
        """The error for the file of this name, with the faults in the order of the file."""
        found = sorted(self.found, key=lambda fault: fault[0])
        faults = [Fault(name, place, ".".join(map(str, path)), words) for place, path, words in found]
        return SettingsError(tuple(faults))


def position_at(mark: Any) -> Position:
    """The position of a PyYAML mark."""
    return START if mark is None else Position(mark.line + 1, mark.column + 1)


def check_text(text: str, limits: FileLimits) -> None:
    """Check that a text is one YAML document within the limits. Raises Wrong."""
    _refuse_large(text, limits)
    for _ in _checked_events(text):
        pass


def tree(text: str) -> yaml.Node | None:
    """The node tree of a text that was checked; None = it is empty. Raises Wrong."""
    try:
        return yaml.compose(text, _Loader)
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error, text) from None


def _refuse_large(text: str, limits: FileLimits) -> None:
    if len(text.encode(errors="replace")) > limits.bytes:
        raise Wrong([(START, (), f"the file is larger than {limits.bytes >> 20} MiB")])
    if control := yaml.reader.Reader.NON_PRINTABLE.search(text):
        before = text[: control.start()]
        place = Position(before.count("\n") + 1, control.start() - before.rfind("\n"))
        raise Wrong([(place, (), f"not valid YAML: the character U+{ord(control[0]):04X} is not allowed")])


def _checked_events(text: str) -> Iterator[yaml.Event]:
    """The events of one document. Raises Wrong for a second document, or one that is nested too deep."""
    depth = documents = 0
    try:
        for event in yaml.parse(text, _Loader):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
            if depth > MAX_DEPTH:
                raise Wrong([(position_at(event.start_mark), (), f"nested more than {MAX_DEPTH} deep")])
            if documents > 1:
                words = "a second document: the file must hold only one"
                raise Wrong([(position_at(event.start_mark), (), words)])
            yield event
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error, text) from None


def _not_yaml(error: yaml.MarkedYAMLError, text: str) -> Wrong:
    place = position_at(error.problem_mark or error.context_mark)
    return Wrong([(place, (), f"not valid YAML: {_syntax(error, text, place)}")])


def _syntax(error: yaml.MarkedYAMLError, text: str, place: Position) -> str:
    line = (text.splitlines() + [""] * place.line)[place.line - 1]
    if line[place.column - 1 : place.column] == "\t":
        return "a tab cannot indent; use spaces"
    if "nesting depth" in (error.problem or ""):  # libyaml's own limit, because it parses ahead
        return f"nested more than {MAX_DEPTH} deep"
    return ", ".join(part for part in (error.context, error.problem) if part)
