"""Durations, sizes, numbers, text, addresses and networks, one value at a time."""

from ipaddress import IPv6Network, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from edge.rules.settings.values import (
    FROM_FILE,
    Address,
    Count,
    Duration,
    FilePath,
    FromEnvironment,
    Ratio,
    Size,
    SocketAddress,
    Text,
    Token,
    TrustedNetwork,
    Unit,
    WebAddress,
    address,
    described,
    duration_text,
    seconds,
    size,
    size_text,
)

few = settings(max_examples=50, deadline=None)


def refusal(kind: Any, value: object, context: str | None = FROM_FILE) -> str:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(kind).validate_python(value, context=context)
    return caught.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250ms", 0.25),
        ("5s", 5.0),
        ("1.5s", 1.5),
        ("10m", 600.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("0", 0.0),
    ],
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value
    assert TypeAdapter(Duration).validate_python(text, strict=True) == value


@pytest.mark.parametrize("text", ["", "5", "s", "5 s", "-5s", "5S", "5us", ".5s", "1h30m", "5s\n", "٥s"])
def test_invalid_durations(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration such as 250ms"):
        seconds(text)


@few
@given(st.integers(0, 10**12).map(lambda n: n / 1000) | st.floats(1e-6, 1e6))
def test_a_duration_survives_being_written(value: float) -> None:
    assert seconds(duration_text(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0s"), (0.02, "20ms"), (1.001, "1001ms"), (75, "75s"), (5400, "90m"), (0.0001, "0.0001s")],
)
def test_a_duration_is_written_in_its_largest_whole_unit(value: float, text: str) -> None:
    assert duration_text(value) == text


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("512B", 512), ("64KiB", 65536), ("1MiB", 1 << 20), ("2GiB", 2 << 30)]
)
def test_sizes(text: str, value: int) -> None:
    assert size(text) == value
    assert TypeAdapter(Size).validate_python(text) == value


@pytest.mark.parametrize("text", ["", "64", "64kB", "64KB", "64K", "1MB", "1.5MiB", "-1B", "1 MiB"])
def test_invalid_sizes(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a size such as 512B, .* \(no other units\)"):
        size(text)


@few
@given(st.integers(0, 1 << 42))
def test_a_size_survives_being_written(value: int) -> None:
    assert size(size_text(value)) == value


def test_a_bare_number_needs_a_unit_in_a_file_only() -> None:
    assert refusal(Duration, 10) == "has no unit: write 10ms, 10s, 10m, 10h or 10d"
    assert refusal(Size, 10) == "has no unit: write 10B, 10KiB, 10MiB or 10GiB"
    assert TypeAdapter(Duration).validate_python(0, context=FROM_FILE) == 0.0
    assert TypeAdapter(Size).validate_python(0, context=FROM_FILE) == 0
    assert TypeAdapter(Duration).validate_python(0.05) == 0.05
    assert TypeAdapter(Size).validate_python(10) == 10


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (Duration, True, "must be a duration such as 5s, not true"),
        (Duration, "5", "must be a duration such as 250ms, 5s, 10m, 1h or 1d, not '5'"),
        (Duration, None, "must be a duration such as 5s, not null"),
        (Size, False, "must be a size such as 64KiB, not false"),
        (Size, 1.5, "must be a size such as 64KiB, not 1.5"),
        (Size, "x", "must be a size such as 512B, 64KiB, 1MiB or 1GiB (no other units), not 'x'"),
        (Count, True, "must be a whole number, not true"),
        (Count, "5", "must be a whole number, not '5'"),
        (Count, 5.0, "must be a whole number, not 5.0"),
        (Count, FromEnvironment("x"), "must be a whole number, not 'x'"),
        (Ratio, "0.5", "must be a number, not '0.5'"),
        (Ratio, False, "must be a number, not false"),
        (Ratio, (), "must be a number, not a list"),
        (Text, False, "must be text, but YAML reads it as false: put it in quotes"),
        (Text, {}, "must be text, not a mapping"),
        (Text, "a\0", "must not contain a NUL character"),
        (FilePath, "", "must not be empty; use null or leave it out to have none"),
        (Token, "a b", "must be letters, digits and .-_ only (it goes into a header), not 'a b'"),
        (TrustedNetwork, 5, "must be a network such as 10.0.0.0/8, not 5"),
        (TrustedNetwork, "x/8", "must be a network such as 10.0.0.0/8 or fd00::/8, not 'x/8'"),
        (TrustedNetwork, "10.1.0.0/8", "has bits beyond its length: did you mean 10.0.0.0/8?"),
        (SocketAddress, 80, "must be an address such as 127.0.0.1:8080, not 80"),
        (SocketAddress, "::1:80", "has an IPv6 address that needs brackets: write [::1]"),
        (SocketAddress, "http://x:80", "has no valid host: 'http://x'"),
        (SocketAddress, "[::g]:80", "has no valid IPv6 address between the brackets: '[::g]'"),
    ],
)
def test_messages_of_errors(kind: Any, value: object, words: str) -> None:
    assert refusal(kind, value) == words


def test_text_from_the_environment_may_be_a_number() -> None:
    assert TypeAdapter(Count).validate_python(FromEnvironment("5"), strict=True) == 5
    assert TypeAdapter(Ratio).validate_python(FromEnvironment("0.5"), strict=True) == 0.5
    assert TypeAdapter(Ratio).validate_python(3, strict=True) == 3.0
    text = TypeAdapter(Text).validate_python(FromEnvironment("123"), strict=True)
    assert (text, type(text)) == ("123", str)


def test_long_values_are_cut_in_messages() -> None:
    assert len(described("x" * 1000)) == 62


@pytest.mark.parametrize("url", ["http://127.0.0.1:9900", "https://core.example/base", "http://[::1]:80"])
def test_web_addresses(url: str) -> None:
    assert TypeAdapter(WebAddress).validate_python(url) == url
    assert TypeAdapter(WebAddress).validate_python(url + "/") == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:9900", "must be a URL such as"),
        ("ftp://x", "must be a URL such as"),
        ("http://", "must be a URL such as"),
        ("http://x:99999", "must be a URL such as"),
        ("http://x y", "must be a URL such as"),
        ("http://[::1", "must be a URL such as"),
        ("http://u:p@x", "must not contain a user or password"),
        ("http://x/?a", "must not have a query or a fragment"),
    ],
)
def test_invalid_web_addresses(url: str, words: str) -> None:
    assert refusal(WebAddress, url).startswith(words)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        (":8080", Address("", 8080)),
        ("[::1]:8080", Address("::1", 8080)),
        ("localhost:0", Address("localhost", 0)),
        ("unix:/run/styx.sock", Address(path="/run/styx.sock")),
    ],
)
def test_addresses_and_back(text: str, parsed: Address) -> None:
    assert address(text) == parsed
    assert str(parsed) == text
    assert TypeAdapter(SocketAddress).validate_python(parsed) is parsed


def test_one_address_has_one_spelling() -> None:
    assert address("[0:0::1]:80") == address("[::1]:80")
    assert address("LocalHost:80") == address("localhost:80")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        "127.0.0.1",
        "127.0.0.1:",
        "1.2.3.4:65536",
        "1.2.3:80",
        "a b:80",
        "::1:80",
        "[::1]",
        "[x]:80",
        "a:-1",
        "unix:",
        "unix:run/x",
        "unix:/" + "x" * 107,
        "http://x:80",
    ],
)
def test_invalid_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r"^(must be|has )"):
        address(text)


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/x", True),
        (":1", False),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("example.org:1", False),
    ],
)
def test_local_addresses(text: str, local: bool) -> None:
    assert address(text).is_local is local


def test_networks() -> None:
    check = TypeAdapter(TrustedNetwork).validate_python
    assert check("10.0.0.0/8") == ip_network("10.0.0.0/8")
    assert check("fd00::/8") == IPv6Network("fd00::/8")
    assert check("10.1.2.3") == ip_network("10.1.2.3/32")
    assert check(ip_network("10.0.0.0/8")) == ip_network("10.0.0.0/8")


def test_units_write_their_numbers() -> None:
    assert [Unit(name).text(64.0) for name in ("duration", "size", "count")] == ["64s", "64B", "64"]
    assert Unit("count").text(1_000_000_000) == "1000000000"
