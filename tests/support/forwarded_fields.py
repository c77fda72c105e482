"""Which fields of a head are forwarded as they are, for the tests of the field filter."""

from edge.rules.http.field_filter import request_filter, response_filter
from edge.rules.http.messages import Fields


def passed(fields: Fields) -> Fields:
    """The fields of a request that reach the backend as they are."""
    return parsed(b"".join(request_filter().sift(fields)[0]))


def passed_back(fields: Fields) -> Fields:
    """The fields of a response that reach the client as they are."""
    return parsed(b"".join(response_filter().sift(fields)[0]))


def parsed(lines: bytes) -> Fields:
    """A strict reading of header lines."""
    fields: Fields = []
    for line in lines.splitlines(keepends=True):
        name, colon, value = line.partition(b": ")
        assert name
        assert colon
        assert value.endswith(b"\r\n")
        fields.append((name, value[:-2]))
    return fields
