"""The scenes of `bench tls`: the fuzzer for a moment, all others short, against a real styx."""

from contextlib import suppress
from random import Random

import pytest

from bench.balancing import once
from bench.tls import idle_connections, many_names, tls_fuzz
from bench.tls.tls_mutations import mutated, records_in
from edge.rules.tls.client_hello import BadClientHello, ClientHelloReader, NotTls

HELLO = bytes.fromhex("1603010004010000001503030002010a")


async def test_the_fuzzer_finds_nothing(capsys):
    report = await tls_fuzz.play(seconds=0.4, seed=7)
    assert report.good, report.text()
    assert report.hellos["hello"] > 5
    assert report.connections.total() > 1


async def test_the_fuzzer_finds_a_reader_that_depends_on_pieces(monkeypatch):
    class Careless(ClientHelloReader):
        def feed(self, data):
            self._limit = 300 + len(data)
            return super().feed(data)

    monkeypatch.setattr(tls_fuzz, "ClientHelloReader", Careless)
    report = await tls_fuzz.play(seconds=0.4, seed=7)
    assert report.found
    assert "in pieces" in report.text()


def test_mutations_are_repeatable_and_change_something():
    made = [mutated(HELLO * 5, Random(seed)) for seed in range(200)]
    assert made == [mutated(HELLO * 5, Random(seed)) for seed in range(200)]
    assert len(set(made)) > 150
    for data in made:
        with suppress(BadClientHello, NotTls):
            ClientHelloReader().feed(data)


def test_records():
    assert records_in(HELLO) == [HELLO[:9], HELLO[9:]]
    assert records_in(HELLO + b"\x16\x03") == [HELLO[:9], HELLO[9:], b"\x16\x03"]
    assert records_in(b"") == []


async def test_names_from_files(tmp_path):
    report = await many_names.play(tmp_path, names=300)
    assert report.good, report.text()
    assert report.read.again < report.read.first
    assert report.read.resident / report.read.names < 64 * 1024


@pytest.mark.long
async def test_idle_connections(tmp_path):
    report = await idle_connections.play(tmp_path)
    assert report.good, report.text()


@pytest.mark.long
async def test_no_post_is_executed_twice_over_tls():
    report = await once.run(once.OncePlan(seconds=6.0, tls=True))
    assert report.good, report.text()
    assert report.load_result.offered > 1500
