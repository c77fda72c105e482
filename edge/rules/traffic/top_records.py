"""The busiest, most failing and slowest environments, as workers report them. Without logic."""

import msgspec


class SiteLoad(msgspec.Struct):
    """The requests of one environment in the time of the report: estimates, because of many a sample is counted."""

    site: str
    environment: str
    requests: float
    failures: float
    "Requests with a status from 500 on."
    seconds: float
    "Time that the requests took, all together."
    missed: float = 0.0
    "How many requests and seconds, added up, it may have had before it was noticed."
    hostname: str = ""
    "One of its hostnames; empty = the worker has no route of it any more."


class TopReport(msgspec.Struct):
    """Of one worker: the environments with most requests, most failures and most time."""

    seconds: float
    "Length of the time that is reported."
    requests: list[SiteLoad]
    failures: list[SiteLoad]
    time: list[SiteLoad]


class TopEntry(msgspec.Struct):
    """One environment in the response of `/v1/top`."""

    site: str
    environment: str
    requests_per_second: float
    failures_per_second: float
    error_ratio: float
    "Part of the requests that failed: with a status from 500 on."
    mean_ms: float
    "Mean time of a request."
    in_flight: float
    "Mean number of requests in flight."
    missed: float = 0.0
    "How many requests and seconds, added up, it may have had before it was noticed, per second."
    hostname: str = ""
    "One of its hostnames, for an explanation; empty = no worker has a route of it any more."


class Top(msgspec.Struct):
    """The response of `/v1/top`."""

    seconds: float
    "Length of the time that is reported: one to two minutes, less after a start."
    rate: list[TopEntry]
    "Those with most requests, the first one first."
    errors: list[TopEntry]
    "Those with most failures."
    latency: list[TopEntry]
    "Of those that take most time, the slowest first."
    silent: list[int]
    "Slots of workers that did not reply."
