from edge.rules.tls.handshake_limit import HandshakeLimit


def test_a_burst_and_then_a_rate() -> None:
    limit = HandshakeLimit(50)
    assert sum(limit.take("192.0.2.1", 1000.0) for _ in range(300)) == 100
    assert limit.rejected == 200
    assert sum(limit.take("192.0.2.1", 1001.0) for _ in range(300)) == 50
    assert sum(limit.take("192.0.2.1", 1100.0) for _ in range(300)) == 100, "no more than a burst after a pause"


def test_clients_are_counted_apart() -> None:
    limit = HandshakeLimit(0.5)
    assert limit.take("192.0.2.1", 0.0)
    assert not limit.take("192.0.2.1", 0.0)
    assert limit.take("192.0.2.2", 0.0)
    assert limit.take("2001:db8::1", 0.0)
    assert not limit.take("2001:db8::2", 0.0), "of the same /64"


def test_no_limit() -> None:
    limit = HandshakeLimit(0)
    assert all(limit.take("192.0.2.1", 0.0) for _ in range(1000))
    assert len(limit) == 0


def test_memory_is_bounded() -> None:
    limit = HandshakeLimit(0.5, capacity=100)
    for number in range(1000):
        limit.take(f"192.0.{number // 256}.{number % 256}", 0.0)
    assert len(limit) == 100
