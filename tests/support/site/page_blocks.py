"""The fenced blocks of a page: its commands, what they should print, and its configurations."""

import re
from pathlib import Path
from typing import NamedTuple

BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w-]*)(?: .*)?\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)


class Block(NamedTuple):
    """One fenced block."""

    heading: str
    "The heading above it."
    language: str
    text: str


class Command(NamedTuple):
    """A line after `$` in a block of the language console."""

    text: str
    prints: list[str]
    "… = anything: a whole line stands for several."


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in BLOCK.finditer(text):
        headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", text[: match.start()]), re.MULTILINE)
        found.append(Block(headings[-1] if headings else "", match["language"], match["text"]))
    return found


def commands(block: Block) -> list[Command]:
    """The commands of a block of the language console."""
    found: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line.removeprefix("$ "), []))
        else:
            found[-1].prints.append(line)
    return found


def missing_in(output: str, lines: list[str]) -> str | None:
    """The first of these lines that the output does not have behind those before it; None = it has all."""
    rest = iter(output.splitlines())
    for line in lines:
        pattern = re.compile(".*".join(map(re.escape, line.rstrip().split("…"))))
        if line.strip() != "…" and not any(pattern.fullmatch(each.rstrip()) for each in rest):
            return line
    return None
