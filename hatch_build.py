"""Compiles the modules of the hot path with mypyc: in place, or into a wheel.

    make compiled                   extension modules beside the sources, which they hide
    make test-compiled              the same for tests only: not optimised (STYX_COMPILE_QUICKLY=1)
    STYX_COMPILE=1 pip wheel .      a wheel with both (hatch runs `CompiledModules`); without it, a pure one

All builds come from the same files. The list of modules is in pyproject.toml.
"""

import os
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
GROUP = "edge.hot"
"All modules are one library, `edge/hot__mypyc`: calls between them are direct."


def modules() -> list[str]:
    """Paths of the modules to compile, relative to the root of the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    paths: list[str] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["modules"]
    return paths


def compile_modules(into: Path, *, quickly: bool = False) -> list[str]:
    """Compile all modules; the extension modules are written below `into`. Returns their paths, relative to it.

    Takes a minute or two, in one large C file, so that calls between modules can be inlined. `quickly`: not
    optimised, in a C file for each module, on all cores. Raises an exception of setuptools without a C compiler.
    """
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="styx-mypyc-") as scratch:
        before = Path.cwd()
        os.chdir(ROOT)  # mypy reads its options from pyproject.toml, and names modules by their path from here
        try:
            extensions = mypycify(
                modules(),
                opt_level="0" if quickly else "2",
                debug_level="0",
                multi_file=quickly,
                group_name=GROUP,
                target_dir=scratch,
            )
            for extension in extensions:
                # A compiler newer than mypyc may warn of what it generates: no reason not to install.
                extension.extra_compile_args = [flag for flag in extension.extra_compile_args if flag != "-Werror"]
                # The headers of the group, which the C files of its modules include from one folder above.
                extension.include_dirs.append(str(Path(scratch, *GROUP.split(".")[:-1])))
            command = build_ext(Distribution({"name": "styx-edge", "ext_modules": extensions}))
            command.build_lib = str(into)
            command.build_temp = scratch
            command.parallel = cores
            command.ensure_finalized()
            if quickly:
                _compile_in_parallel(command, cores)
            command.run()
        finally:
            os.chdir(before)
        return [str(Path(path).relative_to(into)) for path in command.get_outputs()]


def _compile_in_parallel(command: Any, cores: int) -> None:
    """Let a build_ext, which builds extensions side by side, do so with the C files of one extension as well."""
    build_extension = command.build_extension

    def build(extension: Any) -> None:
        compiler = command.compiler
        if not isinstance(compiler.compile, partial):
            compiler.compile = partial(_compile_sources, compiler.compile, cores)
        build_extension(extension)

    command.build_extension = build


def _compile_sources(compile_sources: Any, cores: int, sources: list[str], **options: Any) -> list[str]:
    """Paths of the object files, in the order of their sources."""
    with ThreadPoolExecutor(cores) as threads:
        objects = threads.map(lambda source: compile_sources([source], **options), sources)
        return [path for paths in objects for path in paths]


class CompiledModules(BuildHookInterface[Any]):
    """The build hook of the wheel: adds the extension modules if STYX_COMPILE is 1."""

    PLUGIN_NAME = "custom"

    def is_asked(self) -> bool:
        """Whether a compiled wheel is to be built; an editable install is compiled by `make compiled`."""
        return os.environ.get("STYX_COMPILE") == "1" and self.target_name == "wheel"

    def dependencies(self) -> list[str]:
        """The compiler, and what it reads types from: everything that styx imports."""
        if not self.is_asked():
            return []
        core = self.metadata.core
        return [*core.dependencies, *core.optional_dependencies["redis"], *core.optional_dependencies["compile"]]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and name the wheel by interpreter and platform."""
        if not self.is_asked() or version == "editable":
            return
        self._built = tempfile.TemporaryDirectory(prefix="styx-compiled-")
        into = Path(self._built.name)
        for path in compile_modules(into):
            build_data["force_include"][str(into / path)] = path
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled: it is in the wheel."""
        if hasattr(self, "_built"):
            self._built.cleanup()


def compile_in_place() -> None:
    """Compile beside the sources, and record what was compiled.

    STYX_COMPILE_QUICKLY=1: for tests, not optimised; make takes the result for out of date.
    """
    remove()
    from edge.compilation import DIGESTS, digests

    recorded = digests(modules(), ROOT)  # before: a source that is edited meanwhile must be noticed
    quickly = os.environ.get("STYX_COMPILE_QUICKLY") == "1"
    for path in compile_modules(ROOT, quickly=quickly):
        print(path)
    record = ROOT / "edge" / DIGESTS
    record.write_text(recorded)
    if quickly:
        os.utime(record, (0, 0))


def remove() -> None:
    """Remove what `compile_in_place` has written: this is plain Python again."""
    for path in [*ROOT.glob("edge/**/*.so"), ROOT / "edge" / "compiled.sha256"]:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    {"compile": compile_in_place, "remove": remove}[sys.argv[1]]()
