"""`styx schema` prints what is in the repository."""

import json

import yaml
from click.testing import CliRunner

from edge.run.cli import main


def test_it_prints_both() -> None:
    ran = CliRunner().invoke(main, ["schema"])
    assert ran.exit_code == 0
    assert json.loads(ran.output)["title"] == "Configuration of styx"
    ran = CliRunner().invoke(main, ["schema", "routes"])
    assert json.loads(ran.output)["title"] == "Routes of styx"
    ran = CliRunner().invoke(main, ["schema", "core-api"])
    assert yaml.safe_load(ran.output)["info"]["title"] == "styx core API"
    assert CliRunner().invoke(main, ["schema", "other"]).exit_code == 2
