"""Which build this is: plain Python, or with the modules of the hot path compiled (see `hatch_build.py`).

An extension module hides the source beside it. So `make compiled` records the digests of the sources that it has
compiled, and styx does not start from others: an edited source would have no effect, and nothing would say so.
"""

from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final

PACKAGE: Final = Path(__file__).parent
LIBRARY: Final = "hot__mypyc"
"The extension module that holds the code of all compiled modules."
DIGESTS: Final = "compiled.sha256"
"Digests of the compiled sources, as `sha256sum` writes them. Absent from an installed package."

BUILD: Final = "plain" if find_spec(f"edge.{LIBRARY}") is None else "compiled"


def digests(sources: list[str], root: Path) -> str:
    """One line for each of these files, whose paths are relative to `root`: its digest, and its path."""
    return "".join(f"{sha256((root / name).read_bytes()).hexdigest()}  {name}\n" for name in sources)


def edited_since(package: Path = PACKAGE) -> list[str]:
    """The sources of this package that were edited, or removed, since they were compiled."""
    try:
        recorded = (package / DIGESTS).read_text().splitlines()
    except FileNotFoundError:
        return []
    names = [line.split("  ", 1)[1] for line in recorded]
    present = [name for name in names if (package.parent / name).exists()]
    return sorted(set(names) - set(present)) + [
        line.split("  ", 1)[1] for line in digests(present, package.parent).splitlines() if line not in recorded
    ]


def require_current(package: Path = PACKAGE) -> None:
    """Raises ImportError if a source was edited since it was compiled."""
    if edited := edited_since(package):
        raise ImportError(
            f"edited since it was compiled: {', '.join(edited)}. Compile again (`make compiled`), or go back to "
            "plain Python (`make plain`)."
        )
