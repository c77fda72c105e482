"""Every fenced block of the documentation is run or validated by a test, or named here with the reason why not."""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge.admin.metrics_table import METRICS
from edge.demo.free_ports import free_port
from edge.rules.pages.page_template import page_template
from edge.rules.route_sets.route_file import destinations_in
from edge.rules.settings.file import parse
from edge.run.cli import main
from tests.support.drawings import DOCS, ROOT, pages
from tests.support.site.page_blocks import Block, blocks
from tests.support.site.site_hooks import PAGES, drawing_of

ALL = [(page, block) for page in [*pages(), *(ROOT / name for name in PAGES.values())] for block in blocks(page)]
REQUIRED = {
    "listeners": 'listeners: [{address: "127.0.0.1:8080"}]\n',
    "core_api": 'core_api: {url: "http://127.0.0.1:9900"}\n',
}

RUN_ELSEWHERE = {
    ("docs/core_api.md", "python"): "tests/run/core_api_check/test_core_api_example.py",
    ("docs/first_site.md", "bash"): "tests/docs/test_first_site_page.py",
    ("docs/first_site.md", "console"): "tests/docs/test_first_site_page.py",
    ("docs/incidents.md", "console"): "tests/run/test_incidents.py",
}
"By page and language: the test that runs all such blocks."

NOT_RUN = {
    ("README.md", "styx"): "a drawing",
    ("README.md", "Two commands"): "the tests themselves; the demo is run by tests/demo",
    ("README.md", "Install"): "downloads; docs/first_site.md has the same, which is run",
    ("docs/architecture.md", "Architecture"): "a tree, which tests/test_docs.py checks",
    ("docs/architecture.md", "A request"): "a drawing, and a list that is made from the code",
    ("docs/architecture.md", "Where a route is known"): "a drawing",
    ("docs/architecture.md", "Processes"): "a drawing",
    ("docs/benchmarks.md", "How to run them"): "takes minutes; tests/bench runs the benches, shortened",
    ("docs/contributing.md", "Documentation"): "what they write is compared by tests",
    ("docs/core_api.md", "Check it"): "tests/run/core_api_check",
    ("docs/error_pages.md", "Error pages"): "a tree",
    ("docs/error_pages.md", "Look at them"): "tests/run/pages/test_pages_command.py",
    ("docs/install.md", "A first site"): "tests/run/installation/test_first_site.py",
    (
        "docs/install.md",
        "A service of systemd",
    ): "needs root; tests/run/installation/test_init_command.py, with --root",
    ("docs/install.md", "An image"): "tests/packaging/test_image.py",
    ("docs/install.md", "Compiled"): "builds wheels for an hour",
    ("docs/install.md", "Exactly these versions"): "downloads",
    (
        "docs/kubernetes.md",
        "styx in Kubernetes",
    ): "needs a cluster; tests/packaging/test_kubernetes.py checks the files",
    ("docs/routes.md", "Routes"): "a drawing",
}
"By page and heading: blocks without a language, or of a shell, that no test here runs, and why."


def is_route_file(text: str) -> bool:
    return text.startswith("routes:")


def settings_of(text: str) -> str:
    """A part of a configuration, with what every configuration needs."""
    return "".join(line for name, line in REQUIRED.items() if f"{name}:" not in text) + text


def check_yaml(text: str) -> None:
    if is_route_file(text):
        assert destinations_in(text, name="routes.yaml", may_be_empty=False)
    else:
        parse(settings_of(text), name="styx.yaml", environ={})


def check_mermaid(text: str) -> None:
    assert (DOCS / drawing_of(text)).exists(), "draw it: tests/support/site/mermaid.py"


def check_template(text: str) -> None:
    page_template("error.html", "en", text.encode())


def check_promql(text: str) -> None:
    for name in re.findall(r"\bstyx_\w+", text):
        assert name in {metric.name for metric in METRICS}, f"there is no metric {name}"


def check_foreign(text: str) -> None:
    """nginx, haproxy and Traefik are asked by tests of their own: below, and in test_traefik.py."""


CHECKS: Mapping[str, Callable[[str], object]] = {
    "json": json.loads,
    "yaml": check_yaml,
    "html": check_template,
    "mermaid": check_mermaid,
    "promql": check_promql,
    "nginx": check_foreign,
    "haproxy": check_foreign,
    "traefik": check_foreign,
}


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_every_block_is_run_or_checked_or_named_with_a_reason() -> None:
    left, used = [], set()
    for page, block in ALL:
        by_language, by_heading = (named(page), block.language), (named(page), block.heading)
        if block.language in CHECKS:
            CHECKS[block.language](block.text)
        elif by_language in RUN_ELSEWHERE:
            test = ROOT / RUN_ELSEWHERE[by_language]
            assert page.name in test.read_text()
            used.add(by_language)
        elif by_heading in NOT_RUN:
            used.add(by_heading)
        else:
            left.append(f"{named(page)}, {block.heading}: {block.text.splitlines()[0]}")
    assert left == []
    assert used == RUN_ELSEWHERE.keys() | NOT_RUN.keys()


def lines_of_shells() -> Iterator[tuple[str, str]]:
    """The command lines of all blocks of a shell, with the page."""
    for page, block in ALL:
        if block.language in ("", "bash", "console"):
            text = block.text.replace("\\\n", " ")
            for line in text.splitlines():
                if block.language != "console":
                    yield named(page), line.partition("  #")[0].strip()
                elif line.startswith("$ "):
                    yield named(page), line.removeprefix("$ ")


def parsed(line: str) -> bool:
    """Whether this is a command of styx, with options and arguments that it has. Raises UsageError if not."""
    match = re.match(r"(?:sudo )?(?:\S*/)?styx ([a-z-]+.*)", re.split(r" \d?>| \|| &", line)[0])
    if match is None:
        return False
    command: click.Command = main
    arguments = shlex.split(match[1])
    while isinstance(command, click.Group) and arguments[:1] and not arguments[0].startswith("-"):
        found = command.get_command(click.Context(command), arguments[0])
        assert found is not None, f"there is no styx {arguments[0]}"
        command, arguments = found, arguments[1:]
    command.make_parser(click.Context(command)).parse_args(list(arguments))
    return True


def test_commands_of_styx_have_the_options_that_pages_give_them() -> None:
    assert sum(parsed(line) for _, line in lines_of_shells()) >= 15


def test_commands_that_are_named_in_sentences_exist() -> None:
    for page in pages():
        for name in re.findall(r"`styx ([a-z][a-z-]+)", page.read_text()):
            assert name in main.commands, f"{named(page)}: styx {name}"


def test_alerts_that_are_named_exist() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "config" / "prometheus" / "styx_alerts.yaml").read_text()))
    for page in pages():
        for name in re.findall(r"`(Styx[A-Z]\w+)`", page.read_text()):
            assert name in alerts, f"{named(page)}: {name}"


def test_targets_of_make_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in [*pages(), ROOT / "bench" / "README.md"]:
        for name in re.findall(r"(?:`|^ *)make ([a-z][a-z-]+)", page.read_text(), re.MULTILINE):
            assert name in targets, f"{named(page)}: make {name}"


def blocks_of(page: str, language: str) -> list[Block]:
    return [block for block in blocks(DOCS / page) if block.language == language]


@pytest.mark.parametrize("page", ["compared.md", "migrating.md"])
def test_configurations_beside_those_of_others_pass_styx_check(page: str, tmp_path: Path) -> None:
    found = [block.text for block in blocks_of(page, "yaml")]
    routes = [text for text in found if is_route_file(text)] or ["routes: []\n"]
    (tmp_path / "routes.yaml").write_text(routes[0])
    settings = [text for text in found if not is_route_file(text)]
    assert len(settings) == 2
    for text in settings:
        admin = f'admin: {{address: "127.0.0.1:{free_port()}"}}\n'
        text = text.replace("/etc/styx", str(tmp_path)).replace(":8080", f":{free_port()}")
        (tmp_path / "styx.yaml").write_text(text + admin)
        ran = CliRunner().invoke(main, ["check", "-c", str(tmp_path / "styx.yaml")])
        assert ran.exit_code == 0, ran.output


@pytest.mark.parametrize("page", ["compared.md", "migrating.md"])
@pytest.mark.parametrize(("language", "command"), [("nginx", "nginx -t -q -c"), ("haproxy", "haproxy -c -f")])
def test_configurations_of_others_are_valid(page: str, language: str, command: str, tmp_path: Path) -> None:
    program, *options = command.split()
    found = shutil.which(program, path="/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    for block in blocks_of(page, language):
        file = tmp_path / "configuration"
        here = f"pid {tmp_path}/nginx.pid;\nerror_log stderr;\n" if language == "nginx" else ""
        file.write_text(here + block.text)
        ran = subprocess.run([found, *options, str(file)], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
