"""The wheel and the source distribution: what is in them, and that an index would take them."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCKS = {
    "runtime": ["acme", "redis", "top", "traces"],
    "build": ["compile", "redis", "top"],
    "dev": ["dev", "docs", "release", "top"],
}
"Extras that each file of requirements/ has locked (`make lock`)."


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both, built as `pip` would, from a copy of what a checkout has."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("edge", "config", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "compiled.sha256")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--target", "sdist"]
    ran = subprocess.run([*command, "-d", str(built)], cwd=source, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return built


@pytest.fixture
def wheel(distributions: Path) -> Path:
    [found] = distributions.glob("*.whl")
    return found


def test_the_wheel_is_pure_and_has_all_of_the_package(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = [path for path in (ROOT / "edge").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {str(path.relative_to(ROOT)) for path in package if path.suffix != ".so"} - {"edge/compiled.sha256"}
    assert names == expected
    for data in ("installation/templates/styx.service", "core_api_check/core_api.openapi.yaml"):
        assert f"edge/run/{data}" in names
    assert "edge/admin/status_page/static/index.html" in names


def test_what_the_index_is_told(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    [metadata] = [name for name in archive.namelist() if name.endswith("/METADATA")]
    text = archive.read(metadata).decode()
    assert "License-Expression: MIT" in text
    assert "Keywords: " in text
    assert [
        line for line in text.splitlines() if line.startswith("Classifier: Programming Language :: Python :: 3.1")
    ]
    assert "Requires-Python: >=3.11" in text
    [scripts] = [name for name in archive.namelist() if name.endswith("/entry_points.txt")]
    assert "styx = edge.run.cli:main" in archive.read(scripts).decode()


def test_a_wheel_as_it_is_can_write_its_files(wheel: Path, tmp_path: Path) -> None:
    """The templates and schemas are found in the package, wherever it is."""
    script = "import sys; sys.path.insert(0, sys.argv.pop(1)); from edge.run.cli import main; main()"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "package")
    arguments = ["init", "--root", str(tmp_path), "--directory", "/etc/styx", "--systemd"]
    command = [sys.executable, "-I", "-c", script, str(tmp_path / "package"), *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "etc/systemd/system/styx.service").exists()


def test_the_source_distribution_builds_the_same_package(distributions: Path) -> None:
    [source] = distributions.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    for name in ("hatch_build.py", "pyproject.toml", "config/styx.yaml", "edge/run/cli.py", "LICENSE"):
        assert name in names
    assert not [name for name in names if name.endswith(".so")]


def test_an_index_would_take_them(distributions: Path) -> None:
    if shutil.which("twine", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("needs the extra: pip install -e '.[release]'")
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, distributions.iterdir())]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def locked(name: str) -> dict[str, str]:
    """The versions in a file of locked requirements."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS)
def test_locked_versions_are_those_that_the_project_allows(name: str) -> None:
    versions = locked(name)
    extras = PROJECT["optional-dependencies"]
    for text in [*PROJECT["dependencies"], *(each for extra in LOCKS[name] for each in extras[extra])]:
        requirement = Requirement(text)
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{text} is not locked: make lock"
        assert requirement.specifier.contains(version), f"{text}, but {version} is locked: make lock"


@pytest.mark.parametrize("name", LOCKS)
def test_each_locked_version_has_its_hashes_and_no_index(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    blocks = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(blocks) == len(set(re.findall(r"^([a-z0-9-]+==[^ ]+)", text, re.MULTILINE)))
    assert all("--hash=sha256:" in block for block in blocks)
