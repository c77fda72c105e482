"""English, the language of replies to clients that want none of the others, and of all that are no page."""

from typing import Final

from edge.rules.pages.translations.translation import Translation

_TITLES: Final = {
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    421: "Misdirected Request",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    499: "Client Closed Request",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    508: "Loop Detected",
}
_SENTENCES: Final = {
    "bad_request": "The request was not valid HTTP/1.1, or it could be read in more than one way.",
    "method_not_allowed": "This edge does not pass on requests of this method.",
    "loop_detected": "The request has passed this edge several times: the site's route leads in a circle.",
    "empty_host": "The request did not say which site it is for.",
    "host_not_covered": "The certificate of this connection is not for this site. Please connect again.",
    "request_timeout": "The request did not arrive in time.",
    "body_too_large": "The request body is larger than this edge accepts.",
    "uri_too_long": "The address is longer than this edge accepts.",
    "expectation_failed": "The request expects something that this edge does not know.",
    "headers_too_large": "The request's header is larger than this edge accepts. Clearing the cookies may help.",
    "unknown_host": "There is no site of this name here.",
    "unknown_host_limit": "You have asked for too many sites that do not exist. Please wait a few seconds.",
    "no_backends": "This site has no containers at the moment.",
    "drained": "This site is taken out of service for a moment. Please try again soon.",
    "lookup_failed": "The edge could not find out where this site is. Please try again soon.",
    "maintenance": "This site is under maintenance. Please come back later.",
    "site_limit": "This site is handling as many requests as it may. Please try again in a moment.",
    "client_limit": "This site has many visitors, and you have many requests open. Please try again in a moment.",
    "all_refused": "All containers of this site are busy. Please try again in a moment.",
    "edge_overloaded": "This edge is too busy. Please try again in a moment.",
    "edge_stopped": "This edge is being restarted. Please try again in a moment.",
    "connect_failed": "No container of this site could be reached.",
    "connect_timeout": "No container of this site could be reached in time.",
    "misdirected": "The containers of this site have moved, and their new address is not known yet.",
    "closed_early": "The container closed the connection before it had responded.",
    "bad_answer": "The container's response was not valid HTTP.",
    "response_too_large": "The header of the site's response is larger than this edge accepts.",
    "first_byte_timeout": "The site took too long to respond.",
    "cold_start_timeout": "The site's container did not start in time.",
    "stalled": "The site stopped in the middle of its response.",
}
ENGLISH: Final = Translation("en", {"site": "Site", "reason": "Reason", "request": "Request"}, _TITLES, _SENTENCES)
