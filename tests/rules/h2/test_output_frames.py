"""Frames that the edge writes without a session, and the GOAWAY in the output of one."""

import pytest

from edge.rules.h2.h2_frames import ErrorCode
from edge.rules.h2.output_frames import OutputFrames, goaway_frame, settings_frame
from tests.corpus_h2.frames import data, goaway, ping, settings


def test_a_preface_without_settings():
    assert settings_frame() == settings()


def test_a_goaway():
    assert goaway_frame(5, ErrorCode.ENHANCE_YOUR_CALM) == goaway(5, 11)
    assert OutputFrames().follow(ping() + goaway(1, 5)) == 5
    assert OutputFrames().follow(ping()) is None
    assert OutputFrames().follow(ping()[:5]) is None


@pytest.mark.parametrize("size", [1, 2, 7, 9, 16, 17, 30, 1000])
def test_the_code_of_a_goaway_in_pieces(size):
    """What looks like one within a body is none."""
    output = data(1, goaway(1, 7) * 3, ended=False) + ping() + goaway(1, 5) + ping()
    frames = OutputFrames()
    found = [frames.follow(output[at : at + size]) for at in range(0, len(output), size)]
    assert [code for code in found if code is not None] == [5]
    assert not frames.is_cut
    frames.follow(output[:-1])
    assert frames.is_cut
