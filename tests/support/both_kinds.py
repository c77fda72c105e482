"""Which scenes are played with clients of HTTP/1.1 and of HTTP/2, and which of them not, and why."""

from collections.abc import Mapping

MODULES = frozenset(
    [
        "test_recovery",
        "test_bodies",
        "test_cold_start",
        "test_down",
        "test_forwarding",
        "test_https_redirect",
        "test_moved",
        "test_phases",
        "test_probation",
        "test_error_pages",
        "test_error_reasons",
        "test_refusal_ladder",
        "test_resolving",
        "test_trailers",
        "test_unknown_host_flood",
        "test_waiting_for_slots",
    ]
)
"Modules whose scenes are played with both kinds of client."

_BYTES = "it looks at bytes of HTTP/1.1"
_CLOSE = "it is about Connection, or about the end of a connection"
_CHUNKS = "it is about chunks"
_OLD = "it is about HTTP/1.0"
_PIPELINE = "it is about requests behind each other"
_NAMES = "it compares names of fields, which are in lower case"
_UNSAYABLE = "HTTP/2 cannot say it: see tests/corpus_h2"
H1_ONLY: Mapping[str, str] = {
    "test_bodies.test_a_client_that_waits_for_100_is_not_slow": _BYTES,
    "test_bodies.test_a_client_that_wants_to_close": _CLOSE,
    "test_bodies.test_framings_of_responses": _CHUNKS,
    "test_bodies.test_framings_of_responses_to_an_http10_client": _OLD,
    "test_bodies.test_as_many_requests_on_a_connection_as_are_set": _CLOSE,
    "test_bodies.test_broken_chunks": _CHUNKS,
    "test_bodies.test_continue_comes_from_the_backend": _BYTES,
    "test_bodies.test_early_hints": _OLD,
    "test_bodies.test_larger_than_allowed_and_announced": _CLOSE,
    "test_bodies.test_larger_than_allowed_in_chunks": _CLOSE,
    "test_bodies.test_nothing_is_served_after_close": _CLOSE,
    "test_bodies.test_pipelined_byte_by_byte": _PIPELINE,
    "test_bodies.test_pipelined_in_one_segment": _PIPELINE,
    "test_bodies.test_pipelined_more_than_fits": _PIPELINE,
    "test_bodies.test_pipelined_with_bodies": _PIPELINE,
    "test_forwarding.test_absolute_target_of_the_same_host": _UNSAYABLE,
    "test_forwarding.test_fields_of_one_hop_stay_on_it": _UNSAYABLE,
    "test_forwarding.test_first_request": "it looks at the reason phrase, and at Via",
    "test_forwarding.test_the_target_goes_on_byte_for_byte[/\\xe4/\\xfc]": "the parser of its client refuses it",
    "test_forwarding.test_via_is_appended": "it looks at the version in Via",
    "test_probation.test_what_may_not_be_sent_twice_is_not_copied[ask3]": _UNSAYABLE,
    "test_error_reasons.test_reason[400 bad_request CP]": _UNSAYABLE,
    "test_error_reasons.test_reason[400 empty_host CP]": _UNSAYABLE,
    "test_error_reasons.test_reason[408 request_timeout CP]": _BYTES,
    "test_error_reasons.test_reason[501 bad_request CP]": _UNSAYABLE,
    "test_error_reasons.test_reason[503 edge_overloaded EP]": "it is turned away before its version is known",
    "test_error_reasons.test_reason[503 edge_stopped EH]": _CLOSE,
    "test_error_reasons.test_reason[504 stalled BS]": _BYTES,
    "test_error_reasons.test_reason[505 bad_request CP]": _UNSAYABLE,
    "test_trailers.test_a_client_that_wants_them_says_so_to_the_backend": _UNSAYABLE,
    "test_trailers.test_an_old_client_gets_none": _OLD,
    "test_trailers.test_of_a_request": _NAMES,
    "test_trailers.test_of_a_request_that_is_sent_again": _NAMES,
    "test_trailers.test_those_that_would_change_the_request_are_refused": _UNSAYABLE,
}
"Scenes of those modules that are about what HTTP/2 does not have, and why."


def has_both_kinds(module: str) -> bool:
    """Whether scenes of this module are played with both kinds of client."""
    return module in MODULES


def is_for_h1_only(module: str, function: str, case: str) -> bool:
    """Whether this scene, with the id of its parameters, is not played with a client of HTTP/2."""
    name = f"{module}.{function}"
    return name in H1_ONLY or f"{name}[{case}]" in H1_ONLY
