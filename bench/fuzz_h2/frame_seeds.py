"""How a numbered sequence of frames is made: legal requests, the corpus of the tests, and changes to both. Pure."""

from collections.abc import Callable, Sequence
from random import Random

import hpack
import msgspec

from bench.fuzz.fuzz_seeds import CANARY, LEGAL_REQUESTS, Kind, Message, Seeds, make_message
from bench.fuzz.mutations import PAUSE, Act, Step, Steps, cut, depart, mutate, put_word, sent, turn_bit
from bench.fuzz.strict_reader import Pairs, RequestMessage, members, read_requests
from bench.fuzz_h2 import frames as f
from bench.fuzz_h2.frame_reader import OF_CONNECTION
from bench.fuzz_h2.frames import Frame, encoded, frames_of, literal_block

CORPUS_HOSTS = (b"shop.test", b"hang.test")
"Hosts of the corpus; the host of the fuzzer is as long."
FUZZED = b"fuzz.test"
LARGEST = 48 * 1024
"Bytes of a sequence beyond which it grows no more."
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: <accept>\r\n\r\n\x81\x05hello"
)
"The backend puts the proof that it has read the key in the place of <accept>."
HOSTILE_PAIRS: tuple[tuple[bytes, bytes], ...] = (
    (b"transfer-encoding", b"chunked"),
    (b"transfer_encoding", b"chunked"),
    (b"content-length", b"5"),
    (b"content-length", b"0"),
    (b"content-length", b"+5"),
    (b"content_length", b"5"),
    (b"connection", b"keep-alive"),
    (b"connection", b"x-a"),
    (b"upgrade", b"websocket"),
    (b"te", b"trailers, deflate"),
    (b"te", b"trailers"),
    (b"host", b"legal.test"),
    (b"host", b"fuzz.test"),
    (b":authority", b"legal.test"),
    (b":path", b"/other"),
    (b":path", b"http://legal.test/"),
    (b":path", b"/a HTTP/1.1\r\nHost: legal.test\r\n\r\n"),
    (b":method", b"GET / HTTP/1.1\r\nX: y\r\n\r\nGET"),
    (b":scheme", b"https"),
    (b":protocol", b"websocket"),
    (b":status", b"200"),
    (b"", b"empty"),
    (b"X-Upper", b"1"),
    (b"x-colon:", b"1"),
    (b"x\r\ncontent-length", b"5"),
    (b"x-line", b"a\r\nContent-Length: 5"),
    (b"x-line", b"a\ntransfer-encoding: chunked"),
    (b"x-zero", b"a\0b"),
    (b"x-blank", b" a"),
    (b"x-blank", b"a\t"),
    (b"x-latin", b"\xe4\xfc"),
    (b"cookie", b"a=1"),
    (b"cookie", b"b=2; c=3"),
    (b"expect", b"100-continue"),
    (b"x-request-id", b"mine"),
    (b"x-styx-backend", b"me"),
    (b"x_forwarded_for", b"127.0.0.1"),
    (b"x-forwarded-for", b"127.0.0.1"),
    (b"via", b"1.1 styx, 1.1 styx, 1.1 styx"),
    (b"priority", b"u=0, i"),
    (b"trailer", b"x-sum"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"x-long", b"l" * 9000),
)


PRIORITIES = (b"u=0", b"u=7, i", b"x;;", b"")


# legal sequences


def pairs_of(request: RequestMessage) -> Pairs:
    """The header list of this request."""
    named = members(request.fields, b"connection") | OF_CONNECTION | {b"host", b"te", b"content-length", b"trailer"}
    fields = [(name, value) for name, value in request.fields if name not in named]
    first = [(b":method", request.method), (b":scheme", b"http"), (b":path", request.target)]
    return [*first, (b":authority", request.host), *fields]


class Writer:
    """Writes requests as frames, in any of the legal ways."""

    def __init__(self, rand: Random) -> None:
        self._rand = rand
        self._encoder = hpack.Encoder() if rand.random() < 0.6 else None
        self.has_table = self._encoder is not None
        "Whether header blocks must be sent in the order in which they were made."
        self.stream = rand.choice((1, 1, 1, 3, 77))

    def block(self, pairs: Pairs) -> bytes:
        if self._encoder is None:
            return literal_block(pairs)
        return bytes(self._encoder.encode(pairs, huffman=self._rand.random() < 0.8))

    def request(self, pairs: Pairs, body: bytes, trailers: Pairs | None = None) -> list[Frame]:
        """The frames of one request, on the next stream."""
        rand, stream = self._rand, self.stream
        self.stream += rand.choice((2, 2, 2, 4, 30))
        has_body = bool(body or trailers) or rand.random() < 0.1
        if body and rand.random() < 0.3:
            pairs = [*pairs, (b"content-length", b"%d" % len(body))]
        out = self._head(stream, self.block(pairs), ended=not has_body)
        while body:
            size = rand.choice((1, 5, 100, 5000, f.MOST - 300))
            piece, body = body[:size], body[size:]
            is_last = not body and not trailers and rand.random() < 0.8
            out.append(self._padded(Frame(f.DATA, f.END_STREAM if is_last else 0, stream, piece)))
        if trailers:
            out += self._head(stream, self.block(trailers), ended=True)
        elif has_body and not (out[-1].kind == f.DATA and out[-1].flags & f.END_STREAM):
            out.append(Frame(f.DATA, f.END_STREAM, stream))
        return out

    def _head(self, stream: int, block: bytes, *, ended: bool) -> list[Frame]:
        rand, flags = self._rand, f.END_STREAM if ended else 0
        if rand.random() < 0.1:
            flags, block = flags | f.WITH_PRIORITY, rand.randbytes(3) + bytes((0, 9)) + block
            block = b"\0" + block[1:3] + b"\0" + block[4:]  # no dependency on itself
        size = rand.choice((1 << 13, 1 << 13, 1 << 13, max(1, len(block) // 3)))
        size = max(size, len(block) // 7 + 1, 5)
        parts = [block[at : at + size] for at in range(0, len(block), size)] or [b""]
        first = Frame(f.HEADERS, flags | (f.END_HEADERS if len(parts) == 1 else 0), stream, parts[0])
        rest = [
            Frame(f.CONTINUATION, f.END_HEADERS if number == len(parts) else 0, stream, part)
            for number, part in enumerate(parts[1:], 2)
        ]
        return [self._padded(first), *rest]

    def _padded(self, frame: Frame) -> Frame:
        if self._rand.random() > 0.1:
            return frame
        padding = self._rand.choice((0, 1, 7, 255))
        return frame._replace(
            flags=frame.flags | f.PADDED, payload=bytes([padding]) + frame.payload + bytes(padding)
        )


def _numbered(data: bytes, number: int) -> bytes:
    return data.replace(b"<number>", b"%08d" % number)


def _legal(rand: Random, number: int, *, hostile: bool = False) -> list[Frame]:
    """One to five requests, interleaved now and then."""
    writer, requests = Writer(rand), list[list[Frame]]()
    for _ in range(rand.choice((1, 1, 2, 3, 5))):
        [request, *_] = read_requests(_numbered(rand.choice(LEGAL_REQUESTS), number)).requests
        pairs = list(pairs_of(request))
        if hostile and rand.random() < 0.6:
            pairs = _spoiled(rand, pairs)
        body = request.payload.content
        trailers = [(b"x-sum", b"1"), (b"x-two", b"")] if body and rand.random() < 0.15 else []
        if trailers and hostile and rand.random() < 0.3:
            trailers = _spoiled(rand, trailers)
        requests.append(writer.request(pairs, body, trailers))
    out: list[Frame] = []
    if writer.has_table or rand.random() < 0.3:
        return sum(requests, out)
    while requests:  # DATA between that of others; header blocks stay whole
        heads = [number for number, frames in enumerate(requests) if frames[0].kind == f.HEADERS]
        at = heads[0] if heads else rand.randrange(len(requests))
        frames = requests[at]
        out.append(frames.pop(0))
        while frames and frames[0].kind == f.CONTINUATION:
            out.append(frames.pop(0))
        if not frames:
            requests.pop(at)
    return out


def _spoiled(rand: Random, pairs: Pairs) -> list[tuple[bytes, bytes]]:
    """A header list with something in it that should not be, or without something that should."""
    out = list(pairs)
    for _ in range(rand.choice((1, 1, 2))):
        way, at = rand.random(), rand.randrange(len(out)) if out else 0
        if way < 0.5 or not out:
            pair = rand.choice(HOSTILE_PAIRS)
            place = rand.choice((len(out), at))
            out.insert(place, pair)
        elif way < 0.65:
            out[at] = (out[at][0], rand.choice(HOSTILE_PAIRS)[1])
        elif way < 0.75:
            out.pop(at)
        elif way < 0.85:
            out.append(out[at])
        else:
            name, value = out[at]
            change = rand.choice((turn_bit, put_word))
            out[at] = (change(rand, name), value) if rand.random() < 0.4 else (name, change(rand, value))
    return out


# changes of frames

Change = Callable[[Random, list[Frame]], list[Frame]]


def _control(rand: Random, stream: int) -> Frame:
    """A frame that is no request, legal or not."""
    word = rand.choice((0, 1, 100, 16_384, 65_535, 65_536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)).to_bytes(4, "big")
    stream = rand.choice((0, stream, stream))
    setting = rand.choice((0, 1, 2, 3, 4, 5, 6, 8, 9, 0xF0F0)).to_bytes(2, "big")
    return rand.choice(
        (
            Frame(f.RST_STREAM, 0, stream, word),
            Frame(f.WINDOW_UPDATE, 0, stream, word),
            Frame(f.SETTINGS, 0, 0, setting + word),
            Frame(f.SETTINGS, f.ACK, 0),
            Frame(f.PING, rand.choice((0, f.ACK)), 0, b"fuzzfuzz"),
            Frame(f.PRIORITY, 0, stream or 1, word + b"\x10"),
            Frame(f.PRIORITY_UPDATE, 0, 0, stream.to_bytes(4, "big") + rand.choice(PRIORITIES)),
            Frame(f.GOAWAY, 0, 0, bytes(4) + word),
            Frame(f.PUSH_PROMISE, f.END_HEADERS, stream, word),
            Frame(f.CONTINUATION, f.END_HEADERS, stream, literal_block([(b"x-late", b"1")])),
            Frame(f.DATA, rand.choice((0, f.END_STREAM)), stream, rand.choice((b"", b"late", b"x" * 5000))),
            Frame(f.HEADERS, 0x5, stream, literal_block([(b"x-sum", b"1")])),
            Frame(rand.choice((10, 12, 99, 255)), 0, stream, word),
        )
    )


def insert_control(rand: Random, frames: list[Frame]) -> list[Frame]:
    at = rand.randrange(len(frames) + 1)
    stream = rand.choice(frames).stream if frames else 1
    count = rand.choice((1, 1, 1, 1, 2, 12))
    return [*frames[:at], *[_control(rand, stream) for _ in range(count)], *frames[at:]]


def drop_frame(rand: Random, frames: list[Frame]) -> list[Frame]:
    at = rand.randrange(len(frames))
    return [*frames[:at], *frames[at + 1 :]]


def double_frame(rand: Random, frames: list[Frame]) -> list[Frame]:
    at, to = rand.randrange(len(frames)), rand.randrange(len(frames) + 1)
    return [*frames[:to], frames[at], *frames[to:]]


def swap_frames(rand: Random, frames: list[Frame]) -> list[Frame]:
    one, other, out = rand.randrange(len(frames)), rand.randrange(len(frames)), list(frames)
    out[one], out[other] = out[other], out[one]
    return out


def _one(rand: Random, frames: list[Frame], change: Callable[[Frame], Frame]) -> list[Frame]:
    out, at = list(frames), rand.randrange(len(frames))
    out[at] = change(out[at])
    return out


def other_kind(rand: Random, frames: list[Frame]) -> list[Frame]:
    return _one(rand, frames, lambda frame: frame._replace(kind=rand.choice((*range(10), 16, 200))))


def other_flags(rand: Random, frames: list[Frame]) -> list[Frame]:
    bit = rand.choice((f.END_STREAM, f.END_HEADERS, f.PADDED, f.WITH_PRIORITY, 0x80))
    return _one(rand, frames, lambda frame: frame._replace(flags=frame.flags ^ bit))


def other_stream(rand: Random, frames: list[Frame]) -> list[Frame]:
    stream = rand.choice(frames).stream
    other = rand.choice((0, 1, stream, stream + 1, stream + 2, max(0, stream - 2), 0x7FFFFFFF, 0x80000001))
    return _one(rand, frames, lambda frame: frame._replace(stream=other))


def other_size(rand: Random, frames: list[Frame]) -> list[Frame]:
    delta = rand.choice((-9, -1, 1, 1, 9, 100, 20_000))
    return _one(rand, frames, lambda frame: frame._replace(size=max(0, len(frame.payload) + delta)))


def other_payload(rand: Random, frames: list[Frame]) -> list[Frame]:
    return _one(rand, frames, lambda frame: frame._replace(payload=mutate(rand, frame.payload, [CANARY])[: f.MOST]))


CHANGES: tuple[tuple[Change, int], ...] = (
    (insert_control, 20),
    (drop_frame, 8),
    (double_frame, 8),
    (swap_frames, 8),
    (other_kind, 5),
    (other_flags, 12),
    (other_stream, 12),
    (other_size, 4),
    (other_payload, 12),
)
_CHANGES = [change for change, _ in CHANGES]
_WEIGHTS = [weight for _, weight in CHANGES]


def changed(rand: Random, frames: list[Frame], others: Sequence[Frame]) -> list[Frame]:
    """These frames, changed a few times; now and then with some of another sequence."""
    if others and rand.random() < 0.1:
        at, start = rand.randrange(len(frames) + 1), rand.randrange(len(others))
        frames = [*frames[:at], *others[start : start + rand.choice((1, 2, 5))], *frames[at:]]
    for change in rand.choices(_CHANGES, _WEIGHTS, k=rand.choice((1, 1, 1, 2, 2, 3, 5))):
        if frames and sum(len(frame.payload) for frame in frames) < LARGEST:
            frames = change(rand, frames)
    return frames


# messages


def corpus_frames(steps: Sequence[object], *, bare: bool) -> list[Frame] | None:
    """A case of the corpus as frames; None = it is none, or too long."""
    data = b"".join(step for step in steps if isinstance(step, bytes))
    for host in CORPUS_HOSTS:
        data = data.replace(host, FUZZED)
    if bare and not data.startswith(f.PREFACE):
        return None
    frames, rest = frames_of(data.removeprefix(f.PREFACE))
    return None if rest or not frames or len(data) > 8192 else frames


def make_sequence(seed: int, number: int, corpus: Sequence[list[Frame]], seeds: Seeds) -> Message:
    """Always the same one for the same arguments."""
    rand = Random(f"h2 {seed} {number}")
    chance = rand.random()
    if chance < 0.7:
        return _of_requests(rand, number, corpus)
    if chance < 0.92:
        return _of_responses(rand, seed, number, seeds)
    return _of_tunnels(rand, number)


def _begun(frames: Sequence[Frame]) -> bytes:
    return f.PREFACE + encoded([Frame(f.SETTINGS, 0, 0), *frames])


def _of_requests(rand: Random, number: int, corpus: Sequence[list[Frame]]) -> Message:
    if rand.random() < 0.1:
        return Message(number, Kind.REQUEST, cut(rand, _begun(_legal(rand, number))), [], plain=True)
    if corpus and rand.random() < 0.4:
        frames = list(rand.choice(corpus))
        if rand.random() < 0.5:
            frames += _legal(rand, number)
    else:
        frames = _legal(rand, number, hostile=True)
    if rand.random() < 0.8:
        frames = changed(rand, frames, rand.choice(corpus) if corpus else [])
    data = _begun(frames)
    if rand.random() < 0.12:
        data = mutate(rand, data, [data])
    steps = cut(rand, data)
    return Message(number, Kind.REQUEST, depart(rand, steps) if rand.random() < 0.15 else steps, [])


def _of_responses(rand: Random, seed: int, number: int, seeds: Seeds) -> Message:
    """Legal frames; what the backend says is mutated as for HTTP/1.1."""
    for attempt in range(1000):
        made = make_message(seed, number * 1000 + attempt, seeds)
        requests = read_requests(sent(made.client)).requests
        if made.kind is Kind.RESPONSE and requests:
            writer, frames = Writer(rand), list[Frame]()
            for _ in range(rand.choice((1, 1, 3))):
                request = requests[0]
                frames += writer.request(list(pairs_of(request)), request.payload.content)
            steps = cut(rand, _begun(frames))
            client = depart(rand, steps) if rand.random() < 0.05 else steps
            backend = [msgspec.structs.replace(step) for step in made.backend]
            return Message(number, Kind.RESPONSE, client, backend, hasty=made.hasty)
    raise AssertionError("no message about a response among a thousand")


def _of_tunnels(rand: Random, number: int) -> Message:
    """Extended CONNECT (RFC 8441), and what goes through the tunnel."""
    host = b"g%02d.garbled.test" % rand.randrange(64)
    pairs = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"http")]
    pairs += [(b":path", b"/t/%08d" % number), (b":authority", host), (b"sec-websocket-version", b"13")]
    if rand.random() < 0.3:
        pairs = _spoiled(rand, pairs)
    stream = 1
    frames = [Frame(f.HEADERS, f.END_HEADERS, stream, literal_block(pairs))]
    flood = rand.choice((b"", b"\x89\x80abcd", _numbered(CANARY, number), rand.randbytes(3000)))
    frames += [Frame(f.DATA, 0, stream, flood[at : at + 1000]) for at in range(0, len(flood), 1000)]
    frames.append(rand.choice((Frame(f.DATA, f.END_STREAM, stream), Frame(f.RST_STREAM, 0, stream, bytes(4)))))
    if rand.random() < 0.3:
        frames = changed(rand, frames, [])
    data = SWITCH if rand.random() < 0.7 else mutate(rand, SWITCH, [SWITCH])
    end = [Step(Act.PAUSE, seconds=PAUSE), Step(rand.choice((Act.CLOSE, Act.RESET)))]
    backend: Steps = [*cut(rand, data), *(end if rand.random() < 0.8 else [])]
    client = [*cut(rand, _begun(frames)), Step(Act.PAUSE, seconds=PAUSE), Step(rand.choice((Act.CLOSE, Act.RESET)))]
    return Message(number, Kind.TUNNEL, client, backend)
