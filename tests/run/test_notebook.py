"""What waits for the disk is bounded, and a disk that does not take it is told once and ends nothing."""

import pytest
from structlog.testing import capture_logs

from edge.run import notebook as notebook_module
from edge.run.notebook import Notebook


class StoreDouble:
    """A disk that is full, until it is not."""

    def __init__(self):
        self.full = False
        self.kept = []

    def mend(self):
        pass

    def append(self, records):
        if self.full:
            raise OSError(28, "No space left on device")
        self.kept += records


@pytest.fixture
def store():
    return StoreDouble()


async def test_what_waits_is_written_at_the_end_in_its_order(store):
    notebook = Notebook(store)
    notebook.write([b"1", b"2"])
    notebook.write([b"3"])
    await notebook.close()
    assert store.kept == [b"1", b"2", b"3"]


async def test_what_waits_is_bounded(store, monkeypatch):
    monkeypatch.setattr(notebook_module, "MOST", 100)
    notebook = Notebook(store)
    for _ in range(50):
        notebook.write([bytes(10)])
    await notebook.close()
    assert len(store.kept) == 10


async def test_a_full_disk_is_told_once_and_what_comes_later_is_kept(store, until, monkeypatch):
    monkeypatch.setattr(notebook_module, "PAUSE", 0.0)
    notebook = Notebook(store)
    notebook.start()
    store.full = True
    with capture_logs() as told:
        for _ in range(3):
            notebook.write([b"lost"])
            await until(lambda: not notebook._waiting)
        await until(lambda: told)
        store.full = False
        notebook.write([b"kept"])
        await until(lambda: store.kept[-1:] == [b"kept"])
    await notebook.close()
    errors = [event for event in told if event["event"] == "cannot keep routes on disk"]
    assert len(errors) == 1
    assert "No space left" in errors[0]["error"]
