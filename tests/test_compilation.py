"""What `make compiled` compiles, and that compiled modules are never older than their sources."""

import importlib
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from edge import BUILD
from edge.compilation import DIGESTS, digests, edited_since, require_current
from hatch_build import modules

ROOT = Path(__file__).parent.parent


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of two modules, as it is after `make compiled`."""
    package = tmp_path / "edge"
    package.mkdir()
    for name in ("a.py", "b.py"):
        (package / name).write_text(f'"""{name}"""\n')
    (package / DIGESTS).write_text(digests(["edge/a.py", "edge/b.py"], tmp_path))
    return package


def test_every_module_of_the_list_exists_once() -> None:
    assert len(set(modules())) == len(modules())
    assert [path for path in modules() if not (ROOT / path).exists()] == []


def test_records_are_not_compiled() -> None:
    """msgspec needs the annotations of its records at run time."""
    for path in modules():
        assert "msgspec.Struct" not in (ROOT / path).read_text(), path


def test_all_modules_of_the_list_are_of_this_build() -> None:
    for path in modules():
        file = importlib.import_module(path.removesuffix(".py").replace("/", ".")).__file__
        assert file is not None
        assert file.endswith(tuple(EXTENSION_SUFFIXES) if BUILD == "compiled" else ".py"), file


def test_the_version_says_which_build_it_is() -> None:
    ran = subprocess.run([sys.executable, "-m", "edge", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith(f" ({BUILD})\n")


def test_sources_as_they_were_compiled_are_current(package: Path) -> None:
    assert edited_since(package) == []
    require_current(package)


def test_plain_python_is_always_current(tmp_path: Path) -> None:
    assert edited_since(tmp_path) == []


def test_a_source_that_was_edited_or_removed_is_named(package: Path) -> None:
    (package / "b.py").write_text('"""Edited."""\n')
    assert edited_since(package) == ["edge/b.py"]
    (package / "a.py").unlink()
    assert edited_since(package) == ["edge/a.py", "edge/b.py"]
    with pytest.raises(ImportError, match=r"edge/a\.py, edge/b\.py.*make compiled"):
        require_current(package)
