"""Certificates from a directory, while it changes."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from edge.net.certificates.certificate_directory import CertificateDirectory
from edge.net.certificates.certificate_files_reader import CertificateFiles
from edge.net.certificates.certificate_lookup import NoCertificate
from edge.rules.tls.client_hello import Alert
from edge.run.files.directory_watch import watch_directory
from tests.support.sample_certificates import WALL, authority

CA = authority()


class Reader:
    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.files = CertificateFiles(
            CertificateDirectory(str(path), wall=lambda: WALL), wall=lambda: WALL, **options
        )

    def write(self, name: str) -> None:
        leaf = CA.leaf(f"{name}.test")
        (self.path / f".{name}").write_text(leaf.chain + leaf.key)
        os.replace(self.path / f".{name}", self.path / f"{name}.pem")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(100):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    reader = Reader(tmp_path, interval=3600.0)
    task = asyncio.create_task(reader.files.read_on())
    yield reader
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_lookups(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    reader.write("a")
    reader.files.read_now()
    found = await reader.files.lookup("a.test", "192.0.2.7", deadline=0.0)
    assert found is reader.files.find("a.test")
    with pytest.raises(NoCertificate, match="absent") as raised:
        await reader.files.lookup("b.test", None, deadline=1e9)
    assert raised.value.alert is Alert.UNRECOGNIZED_NAME


async def test_garbage_collection_goes_on_after_reading(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    reader.write("a")
    reader.files.read_now()
    assert gc.isenabled()
    with pytest.raises(FileNotFoundError):
        Reader(tmp_path / "none").files.read_now()
    assert gc.isenabled()


async def test_it_looks_at_once_when_it_is_told(reader: Reader) -> None:
    await until(lambda: reader.files.looks > 0)
    reader.write("a")
    assert reader.files.find("a.test") is None
    reader.files.look_soon()
    await until(lambda: reader.files.find("a.test") is not None)


async def test_changes_are_watched(reader: Reader) -> None:
    watcher = asyncio.create_task(reader.files.watching(watch_directory)())  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(100):
            number = 0
            while reader.files.find(f"{number}.test") is None:
                number += 1  # it may not be watching yet
                reader.write(str(number))
                await asyncio.sleep(0.3)
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


async def test_after_a_look_that_took_long_it_rests(tmp_path: Path) -> None:
    times = iter([0.0, 1000.0])
    reader = Reader(tmp_path, interval=3600.0, clock=lambda: next(times))
    task = asyncio.create_task(reader.files.read_on())
    await until(lambda: reader.files.looks == 1)
    for _ in range(50):
        reader.files.look_soon()
        await asyncio.sleep(0)
    assert (reader.files.looks, task.done()) == (1, False)
    task.cancel()


async def test_hostnames_that_are_served_no_longer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader = Reader(tmp_path)
    for name in "ab":
        reader.write(name)
    reader.files.read_now()
    (tmp_path / "a.pem").unlink()
    leaf = CA.leaf("c.test")
    (tmp_path / "b.pem").write_text(leaf.chain + leaf.key)
    await reader.files.look()
    await reader.files.look()
    [event] = [record for record in caplog.records if getattr(record, "code", "") == "certificate_names_dropped"]
    assert (event.names, event.hostnames) == (2, ["a.test", "b.test"])


async def test_explained_by_the_fault_of_its_file(tmp_path: Path) -> None:
    """Whatever the name of the file."""
    reader = Reader(tmp_path)
    leaf = CA.leaf("a.test", "*.b.test")
    (tmp_path / "both.pem").write_text(leaf.chain + leaf.key)
    await reader.files.look()
    assert reader.files.faults == 0
    (tmp_path / "both.pem").write_text("")
    await reader.files.look()
    assert reader.files.faults == 1
    for hostname in ("a.test", "any.b.test"):
        explained = reader.files.explain(hostname)
        assert explained is not None
        assert (explained.state, explained.names) == ("fresh", ["*.b.test", "a.test"])
        assert "both.pem: unreadable" in (explained.last_error or "")
    [ending] = reader.files.ending_first()
    assert ending.last_error
    os.rename(tmp_path, tmp_path.with_name("gone"))
    await reader.files.look()
    assert reader.files.faults == -1


async def test_it_looks_again_after_a_while(tmp_path: Path) -> None:
    reader = Reader(tmp_path, interval=0.01)
    task = asyncio.create_task(reader.files.read_on())
    await until(lambda: reader.files.looks > 0)
    reader.write("a")
    await until(lambda: reader.files.find("a.test") is not None)
    task.cancel()


async def test_a_directory_that_is_gone_for_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "certs").mkdir()
    reader = Reader(tmp_path / "certs")
    reader.write("a")
    await reader.files.look()
    os.rename(tmp_path / "certs", tmp_path / "away")
    for _ in range(3):
        await reader.files.look()
        assert reader.files.find("a.test") is not None, "it is served on"
        assert not reader.files.is_readable
    assert [record.code for record in caplog.records if record.levelname == "ERROR"] == [
        "certificate_directory_unreadable"
    ]  # type: ignore[attr-defined]
    os.rename(tmp_path / "away", tmp_path / "certs")
    await reader.files.look()
    assert reader.files.is_readable


async def test_each_fault_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader = Reader(tmp_path)
    for number in range(30):
        (reader.path / f"{number:02}.pem").write_text("nonsense")
    for _ in range(3):
        await reader.files.look()
    told = [record for record in caplog.records if getattr(record, "code", "") == "certificate_rejected"]
    assert len(told) == 20, "and no more than 20 after one look"
    assert reader.files.faults == 30
    assert [getattr(told[0], field) for field in ("certificate", "reason")] == ["00.pem", "unreadable_chain"]
