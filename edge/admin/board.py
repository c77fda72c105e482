"""STUB until the real board is merged."""

import mmap


class Row:
    def __init__(self, cells: memoryview) -> None:
        self._cells = cells

    def begin(self, slot: int, pid: int, now: float) -> None:
        self._cells[0] = slot
        self._cells[1] = now

    def beat(self, now: float, lag: float) -> None:
        self._cells[1] = now

    @property
    def heartbeat(self) -> float:
        return float(self._cells[1])

    def ended(self) -> None:
        self._cells[1] = 0.0

    def reloaded(self, ok: bool, wall_time: float) -> None: ...

    def restarted(self, reason: str) -> None: ...

    def upgraded(self, ok: bool) -> None: ...


class Board:
    def __init__(self, rows: int = 512) -> None:
        self._memory = mmap.mmap(-1, rows * 4096)
        self._rows = memoryview(self._memory).cast("d")
        self.rows = rows

    def row(self, number: int) -> Row:
        return Row(self._rows[number * 512 : number * 512 + 512])
