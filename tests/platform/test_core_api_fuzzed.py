"""The core API of the pocket platform keeps to its OpenAPI description, whatever it is asked."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge.run.core_api_check.core_api_description import core_api_description

CASES = int(os.environ.get("STYX_FUZZ_CASES", "500"))
"Generated cases of each operation."


@pytest.mark.long
async def test_no_request_breaks_it(platform, tmp_path: Path) -> None:
    await platform.create_environment("acme", hostnames=["live-acme.example.org"], service_time=0)
    path = tmp_path / "core_api.yaml"
    path.write_text(core_api_description())
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(path), "--url", platform.core_api_url]
    command += ["--exclude-path", "/v1/changes", "--max-examples", str(CASES), "--seed", "1"]
    command += ["--phases", "examples,coverage,fuzzing", "--no-color"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output
    [(generated, passed)] = re.findall(r"(\d+) generated, (\d+) passed", output)
    assert int(generated) == int(passed) > CASES, output
