"""Traces of a real edge: each worker sends its own, and what waits when it stops."""

from edge.demo.styx_process import StyxProcess
from tests.support.otlp_receiver import OtlpReceiver, attributes
from tests.support.processes.edges import Kept, text


async def test_a_worker_that_ends_sends_what_waits():
    with OtlpReceiver() as receiver:
        more = f'traces: {{endpoint: "{receiver.url}", sample: 1.0}}'
        async with StyxProcess(text(more=more, workers=1)) as styx:
            async with Kept(styx.port) as kept:
                assert (await kept.ask()).startswith(b"HTTP/1.1 503 ")
            [worker] = await styx.workers()
            edge = styx.settings
        [span] = receiver.spans
        assert attributes(span)["styx.cause"] == "maintenance"
        assert receiver.resources[0]["service.instance.id"].endswith(f"-{worker}")
        assert receiver.resources[0]["service.name"] == edge.traces.service_name


async def test_a_wrong_endpoint_is_found_before_anything_starts(run, tmp_path):
    (tmp_path / "styx.yaml").write_text(text(more='traces: {endpoint: "127.0.0.1:4318", token_file: "/nowhere"}'))
    ran = await run("check", "-c", tmp_path / "styx.yaml")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "traces.endpoint: must be a URL such as http://127.0.0.1:4318" in ran.err
