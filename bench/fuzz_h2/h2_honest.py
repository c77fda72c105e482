"""A client of HTTP/2 that sends only legal requests while others fuzz, and checks every byte that it receives.

Its frames are made and read by the library h2, which objects to whatever a server must not send.
"""

import time
from contextlib import suppress

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from bench.fuzz.fuzz_client import connect
from bench.fuzz.fuzz_honest import TIMEOUT, Honest
from bench.fuzz.strict_reader import Payload, ResponseMessage, State, read_requests


class H2Honest(Honest):
    """Sends its requests as streams, on a connection that stays or a new one."""

    _h2: h2.connection.H2Connection
    _is_leaving = False
    "Whether the edge has announced the end of the connection in good order."

    async def exchange(self, requests: list[tuple[bytes, bytes]]) -> tuple[list[ResponseMessage], str]:
        """All of them at once; the responses in their order, or what is wrong."""
        line = self._line
        if line is None or line.end != "open" or self._rand.random() < 0.2:
            self.leave()
            try:
                line = self._line = await connect(self._port, self._address)
            except OSError as error:
                return [], f"cannot connect: {error}"
            self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
            self._h2.initiate_connection()
        self._is_leaving = False
        streams = [self._begin(head, body) for head, body in requests]
        found: dict[int, ResponseMessage] = {number: _nothing() for number in streams}
        deadline = time.monotonic() + TIMEOUT
        while not all(found[number].whole for number in streams):
            assert line is not None
            if self._is_leaving and line.end != "open" and not any(found[number].status for number in streams):
                return await self.exchange(requests)  # it was idle for too long just when these were written
            if line.transport is None or time.monotonic() > deadline:
                return [], f"{line.end} after {[found[number].status for number in streams]}"
            line.transport.write(self._h2.data_to_send())
            await line.until(bool, deadline - time.monotonic())
            data, wrong = bytes(line.data), ""
            line.data.clear()
            try:
                for event in self._h2.receive_data(data):
                    wrong = wrong or self._take(event, found)
            except h2.exceptions.ProtocolError as error:
                return [], f"{type(error).__name__}: {error}"
            if wrong:
                return [], wrong
        if line is not None and line.transport is not None:
            line.transport.write(self._h2.data_to_send())
        return [found[number] for number in streams], ""

    def _begin(self, head: bytes, body: bytes) -> int:
        [request] = read_requests(head + body).requests
        stream = self._h2.get_next_available_stream_id()
        fields = [(b":method", request.method), (b":scheme", b"http"), (b":path", request.target)]
        fields.append((b":authority", request.host))
        usual = (b"host", b"transfer-encoding")
        fields += [(name, value) for name, value in request.fields if name not in usual]
        content = request.payload.content
        self._h2.send_headers(stream, fields, end_stream=not content)
        if content:
            self._h2.send_data(stream, content, end_stream=True)
        return stream

    def _take(self, event: h2.events.Event, found: dict[int, ResponseMessage]) -> str:
        match event:
            case h2.events.ResponseReceived():
                (_, status), *fields = [(bytes(name), bytes(value)) for name, value in event.headers]
                found[event.stream_id].status, found[event.stream_id].fields = int(status), fields
            case h2.events.DataReceived():
                found[event.stream_id].payload.content += event.data
                with suppress(h2.exceptions.ProtocolError):
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                found[event.stream_id].payload.state = State.WHOLE
            case h2.events.StreamReset():
                return f"stream {event.stream_id} was reset with {event.error_code}"
            case h2.events.ConnectionTerminated():
                self._is_leaving = True
                return f"GOAWAY {event.error_code}" if event.error_code else ""
        return ""


def _nothing() -> ResponseMessage:
    return ResponseMessage(1, 0, [], Payload(State.PARTIAL), [])
