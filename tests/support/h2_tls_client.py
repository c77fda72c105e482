"""A client of a scene that speaks HTTP/2 over TLS."""

from tests.support.h2_scene_client import H2Client
from tests.support.tls_client import TlsClient


class H2TlsClient(H2Client, TlsClient):  # type: ignore[misc]  # each has a `write` of its own; that of frames counts
    """Frames of the one, in the records of the other."""

    scheme = b"https"
