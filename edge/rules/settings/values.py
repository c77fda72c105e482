"""Types of single values of the configuration: durations, sizes, numbers, text, addresses, networks.

The file is stricter than YAML 1.1. A duration must have a unit (a bare 30 could be seconds or milliseconds), a size
has units of powers of two, `no` is not text and "5" is not a number. Code that builds settings may pass seconds and
bytes: pydantic's validation context is FROM_FILE only while a file is read.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Final, NamedTuple, TypeGuard, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import BeforeValidator, PlainValidator, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

FROM_FILE: Final = "file"
THE_CORE_API: Final = "the core API"
"What the source of routes is called in explanations, unless it is a pushed one."
T = TypeVar("T")
_schema = WithJsonSchema


class FromEnvironment(str):
    """Text in which ${NAME} was replaced. It may be used as a number, while a quoted "5" in the file may not."""

    __slots__ = ()


def wrong(words: str) -> PydanticCustomError:
    """The error that a validator raises. `words` is the message for the user, unchanged."""
    return PydanticCustomError("wrong", "{words}", {"words": words})


def described(value: object) -> str:
    """A value in messages: as it is written in the file, and short enough for one line."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(str(value) if len(value) <= 60 else value[:57] + "...")
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return str(value)


def _parsed(parse: Callable[[str], T], value: object, example: str) -> T:
    """The result of `parse` for a text. Raises PydanticCustomError with the text of its ValueError, or for a value
    that is not text."""
    if not isinstance(value, str):
        raise wrong(f"must be {example}, not {described(value)}")
    try:
        return parse(value)
    except ValueError as error:
        raise wrong(str(error)) from None


# Numbers ---------------------------------------------------------------------------------------------------

_WHOLE = re.compile(r"-?[0-9]{1,18}")
_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")


def _count(value: object) -> int:
    if isinstance(value, FromEnvironment) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(f"must be a whole number, not {described(value)}")
    return value


def _workers(value: object) -> int:
    """The number of workers; 0 = `auto`, one for each core."""
    if value == "auto" or value is None:
        return 0
    if isinstance(value, str) and not isinstance(value, FromEnvironment):
        raise wrong(f"must be auto or a whole number, not {described(value)}")
    count = _count(value)
    if count < 1:
        raise wrong(f"must be auto or at least 1, not {count}")
    return count


def _ratio(value: object) -> float:
    if isinstance(value, FromEnvironment) and _DECIMAL.fullmatch(value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(f"must be a number, not {described(value)}")
    return float(value)


def _flag(value: object) -> object:
    if isinstance(value, FromEnvironment) and value in ("true", "false"):
        return value == "true"
    return value


# Durations and sizes ---------------------------------------------------------------------------------------

_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,30})?)(ms|s|m|h|d)")
_SECONDS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB)")
_BYTES: Final = {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}


def seconds(text: str) -> float:
    """Parse `250ms`, `1.5s`, `10m`, `1h`, `1d` or `0` into seconds. Raises ValueError."""
    if text == "0":
        return 0.0
    parts = _DURATION.fullmatch(text)
    if parts is None:
        raise ValueError(f"must be a duration such as 250ms, 5s, 10m, 1h or 1d, not {described(text)}")
    number, unit = float(parts[1]), parts[2]
    # Dividing keeps 1001ms == 1.001; multiplying by 0.001 does not.
    return number / 1000 if unit == "ms" else number * _SECONDS[unit]


def duration_text(value: float) -> str:
    """Format seconds in the largest unit that divides them; `seconds` parses it to the same float."""
    if value == 0:
        return "0s"
    for unit, length in _SECONDS.items():
        if value % length == 0:
            return f"{int(value // length)}{unit}"
    milliseconds = round(value * 1000)
    if milliseconds / 1000 == value:
        return f"{milliseconds}ms"
    return f"{Decimal(repr(value)):f}s"


def size(text: str) -> int:
    """Parse `512B`, `64KiB`, `1MiB`, `1GiB` or `0` into bytes. Raises ValueError."""
    if text == "0":
        return 0
    parts = _SIZE.fullmatch(text)
    if parts is None:
        raise ValueError(
            f"must be a size such as 512B, 64KiB, 1MiB or 1GiB (no other units), not {described(text)}"
        )
    return int(parts[1]) * _BYTES[parts[2]]


def size_text(value: int) -> str:
    """Format bytes in the largest unit that divides them; `size` parses it to the same number."""
    if value == 0:
        return "0"
    unit = next(unit for unit, length in _BYTES.items() if value % length == 0)
    return f"{value // _BYTES[unit]}{unit}"


def _quantity(pattern: re.Pattern[str]) -> dict[str, Any]:
    """The JSON Schema of a number with a unit, or 0."""
    return {"anyOf": [{"type": "string", "pattern": f"^(0|{pattern.pattern})$"}, {"const": 0}]}


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _duration(value: object, info: ValidationInfo) -> float:
    if _is_number(value):
        if value == 0 or info.context != FROM_FILE:
            return float(value)
        raise wrong(f"has no unit: write {value}ms, {value}s, {value}m, {value}h or {value}d")
    return _parsed(seconds, value, "a duration such as 5s")


def _size(value: object, info: ValidationInfo) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if value == 0 or info.context != FROM_FILE:
            return value
        raise wrong(f"has no unit: write {value}B, {value}KiB, {value}MiB or {value}GiB")
    return _parsed(size, value, "a size such as 64KiB")


# Text ------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if isinstance(value, bool | int | float):
        raise wrong(f"must be text, but YAML reads it as {described(value)}: put it in quotes")
    if not isinstance(value, str):
        raise wrong(f"must be text, not {described(value)}")
    if "\0" in value:
        raise wrong("must not contain a NUL character")
    return str(value)


def _path(value: object) -> str | None:
    if value is None:
        return None
    if not (text := _text(value)):
        raise wrong("must not be empty; use null or leave it out to have none")
    return text


# Valid in a Via pseudonym and in X-Styx-Edge without quoting: a token of RFC 9110, section 5.6.2.
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{0,255}")


def _token(value: object) -> str:
    if not _TOKEN.fullmatch(text := _text(value)):
        raise wrong(f"must be letters, digits and .-_ only (it goes into a header), not {described(text)}")
    return text


def _url_parts(text: str, *schemes: str) -> SplitResult | None:
    """The parts of a URL with one of these schemes; None = not a URL, or one without a host (`unix`: without a
    path)."""
    try:
        parts = urlsplit(text)
        usable = parts.path.startswith("/") if parts.scheme == "unix" else parts.hostname and parts.port != 0
    except ValueError:
        return None
    plain = text.isascii() and text.isprintable() and " " not in text
    return parts if usable and plain and parts.scheme in schemes else None


def _file_path(path: str) -> str:
    if not path.startswith("/") or (path.startswith("//") and not path.startswith("///")):
        url = described(f"file:{path}")
        raise wrong(f"must be the whole path of a file, such as file:/etc/styx/routes.yaml, not {url}")
    return "/" + path.lstrip("/")


class PushedSourceUrl(NamedTuple):
    """The URL of a source of routes that is pushed."""

    label: str
    "What the source is called in explanations."
    location: Callable[[str], str]
    "Validates the rest of the URL, and returns its canonical form."


SOURCE_URLS: Final[Mapping[str, PushedSourceUrl]] = {"file": PushedSourceUrl("the file of routes", _file_path)}
"Sources of routes other than a core API, by the scheme of the URL. To add one, see `route_source.py`."


def source_label(source: str) -> str:
    """The name in explanations of the source of routes with this scheme."""
    return SOURCE_URLS[source].label if source in SOURCE_URLS else THE_CORE_API


def _web_address(value: object) -> str:
    text = _text(value)
    source, colon, location = text.partition(":")
    if colon and source in SOURCE_URLS:
        return f"{source}:{SOURCE_URLS[source].location(location)}"
    parts = _url_parts(text, "http", "https")
    if parts is None:
        raise wrong(
            f"must be a URL such as http://127.0.0.1:9900 or file:/etc/styx/routes.yaml, not {described(text)}"
        )
    if parts.username is not None:
        raise wrong("must not contain a user or password: put a token into a file and name it in token_file")
    if "?" in text or "#" in text:
        raise wrong(f"must not have a query or a fragment: paths are added to it; not {described(text)}")
    return text.rstrip("/")


def _redis_address(value: object) -> str | None:
    if value is None:
        return None
    text = _text(value)
    parts = _url_parts(text, "redis", "rediss", "unix")
    if parts is None:
        raise wrong(
            f"must be a URL such as redis://127.0.0.1:6379/0 or unix:///run/redis.sock, not {described(text)}"
        )
    if parts.password is not None:
        raise wrong("must not contain a password: put it into a file and name that in password_file")
    return text


def _receiver_address(value: object) -> str | None:
    if value is None:
        return None
    text = _text(value)
    parts = _url_parts(text, "http", "https")
    if parts is None:
        raise wrong(f"must be a URL such as http://127.0.0.1:4318, not {described(text)}")
    if parts.username is not None:
        raise wrong("must not contain a user or password: put a token into a file and name it in token_file")
    if "?" in text or "#" in text:
        raise wrong(f"must not have a query or a fragment: a path is added to it; not {described(text)}")
    return text.rstrip("/")


# Addresses and networks ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on: host and port, or the path of a Unix socket. An empty host: every interface."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it: a Unix socket or a loopback address."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


_HOST_NAME = re.compile(r"(?=.{1,253}$)(?!.*\.[0-9]+$|[0-9]+$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_PATH_BYTES = 107  # sun_path of Linux is 108 bytes and ends with a NUL


def is_socket_path(path: str) -> bool:
    """Whether a Unix socket can have this path: an absolute path of at most 107 bytes."""
    return path.startswith("/") and "\0" not in path and len(path.encode("utf-8", "surrogatepass")) <= _PATH_BYTES


def address(text: str) -> Address:
    """Parse `host:port`, `[::1]:8080`, `:8080` or `unix:/path`. Port 0: any free port. Raises ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not is_socket_path(path):
            raise ValueError(f"must be an absolute path of at most {_PATH_BYTES} bytes after unix:")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(
            f"must be host:port, [IPv6 address]:port, :port or unix:/path, with a port up to 65535, "
            f"not {described(text)}"
        )
    return Address(host=_host(host), port=int(port))


def _host(host: str) -> str:
    """A host in canonical form, so that two spellings of one address compare equal. Raises ValueError."""
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(IPv6Address(host[1:-1]))
        except ValueError:
            raise ValueError(f"has no valid IPv6 address between the brackets: {described(host)}") from None
    try:
        usual = str(ip_address(host))
    except ValueError:
        if host and not _HOST_NAME.fullmatch(host):
            raise ValueError(f"has no valid host: {described(host)}") from None
        return host.lower()
    if ":" in usual:
        raise ValueError(f"has an IPv6 address that needs brackets: write [{host}]")
    return usual


def _address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    return _parsed(address, value, "an address such as 127.0.0.1:8080")


Network = IPv4Network | IPv6Network


def _network(value: object) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    # ip_network would accept 5 as 0.0.0.5/32.
    if not isinstance(value, str):
        raise wrong(f"must be a network such as 10.0.0.0/8, not {described(value)}")
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        raise wrong(f"must be a network such as 10.0.0.0/8 or fd00::/8, not {described(value)}") from None
    if "/" in value and str(network.network_address) != str(ip_address(value.partition("/")[0])):
        raise wrong(f"has bits beyond its length: did you mean {network}?")
    return network


# The types that settings are declared with -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unit:
    """Annotation of a number type: how its values are written in messages and in the reference."""

    name: str

    def text(self, value: float) -> str:
        match self.name:
            case "workers" if value == 0:
                return "auto"
            case "duration":
                return duration_text(value)
            case "size":
                return size_text(int(value))
            case _:
                return f"{value:g}" if value < 1_000_000 else str(value)


# Each type with the JSON Schema of what may be written for it (`json_schema.py`), bounds aside.
Count = Annotated[int, BeforeValidator(_count), Unit("count"), _schema({"type": "integer"})]
Workers = Annotated[
    int,
    BeforeValidator(_workers),
    Unit("workers"),
    _schema({"anyOf": [{"enum": ["auto", None]}, {"type": "integer", "minimum": 1}]}),
]
Flag = Annotated[bool, BeforeValidator(_flag), _schema({"type": "boolean"})]
Ratio = Annotated[float, BeforeValidator(_ratio), Unit("ratio"), _schema({"type": "number"})]
Duration = Annotated[float, BeforeValidator(_duration), Unit("duration"), _schema(_quantity(_DURATION))]
Size = Annotated[int, BeforeValidator(_size), Unit("size"), _schema(_quantity(_SIZE))]
Text = Annotated[str, BeforeValidator(_text), _schema({"type": "string"})]
FilePath = Annotated[str | None, BeforeValidator(_path), _schema({"type": ["string", "null"], "minLength": 1})]
Token = Annotated[str, BeforeValidator(_token), _schema({"type": "string", "pattern": f"^{_TOKEN.pattern}$"})]
WebAddress = Annotated[
    str,
    BeforeValidator(_web_address),
    _schema({"type": "string", "pattern": r"^(https?://[^?#@\s]+|file:/.+)$"}),
]
RedisAddress = Annotated[
    str | None,
    BeforeValidator(_redis_address),
    _schema({"type": ["string", "null"], "pattern": r"^(rediss?://\S+|unix:/\S+)$"}),
]
ReceiverAddress = Annotated[
    str | None,
    BeforeValidator(_receiver_address),
    _schema({"type": ["string", "null"], "pattern": r"^https?://[^?#@\s]+$"}),
]
SocketAddress = Annotated[
    Address,
    PlainValidator(_address),
    _schema({"type": "string", "pattern": r"^(unix:/.+|(\[[0-9A-Fa-f:.]+\]|[^\s:/]*):[0-9]{1,5})$"}),
]
TrustedNetwork = Annotated[
    Network,
    PlainValidator(_network),
    _schema({"type": "string", "pattern": r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"}),
]
