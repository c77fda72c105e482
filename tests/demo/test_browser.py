"""A browser is opened only for somebody at the terminal of a desktop."""

import webbrowser

import pytest

from edge.demo.browser import has_desktop, open_browser


@pytest.mark.parametrize(
    ("environ", "terminal", "expected"),
    [
        ({"DISPLAY": ":0"}, True, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True, True),
        ({"DISPLAY": ":0"}, False, False),
        ({"DISPLAY": ""}, True, False),
        ({}, True, False),
    ],
)
def test_only_at_the_terminal_of_a_desktop(environ, terminal, expected):
    assert has_desktop(environ, terminal=terminal) is expected


def test_nothing_is_opened_otherwise(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(webbrowser, "open", lambda url: pytest.fail(url))
    open_browser("http://127.0.0.1:1/")
