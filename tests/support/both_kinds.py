"""Which scenes are played with clients of HTTP/1.1 and of HTTP/2, and which of them not, and why."""

from collections.abc import Mapping

MODULES = frozenset(
    [
        "test_back_again",
        "test_bodies",
        "test_cold_start",
        "test_down",
        "test_forwarding",
        "test_moved",
        "test_phases",
        "test_probation",
        "test_reasons",
        "test_refusal_ladder",
        "test_resolving",
        "test_slow_receivers",
        "test_trailers",
        "test_unknown_host_flood",
        "test_wait_room",
    ]
)
"Modules whose scenes are played with both kinds of client."

H1_ONLY: Mapping[str, str] = {}
"Scenes of those modules that are about what HTTP/2 does not have, by module and function, and why."


def has_both_kinds(name: str) -> bool:
    """Whether the scene `module.function` is played with both kinds of client."""
    return name.partition(".")[0] in MODULES and name not in H1_ONLY
