from edge.admin.health import Health


def test_starting_is_live_and_not_ready():
    health = Health()
    assert (health.live, health.ready) == (True, False)
    assert health.text == "starting: listeners are not open yet"


def test_open_listeners_make_it_ready():
    health = Health()
    health.opened()
    assert (health.live, health.ready, health.text) == (True, True, "ready")
    assert repr(health) == "<Health ready>"


def test_draining_is_live_and_not_ready():
    health = Health()
    health.opened()
    health.drain("SIGTERM")
    assert (health.live, health.ready, health.text) == (True, False, "draining: SIGTERM")


def test_a_drain_cannot_be_undone():
    health = Health()
    health.drain("SIGTERM")
    health.opened()
    assert health.text == "draining: SIGTERM"


def test_broken_is_final():
    health = Health()
    health.fail("the accept loop stopped")
    health.drain("SIGTERM")
    assert (health.live, health.ready, health.text) == (False, False, "broken: the accept loop stopped")
