"""The OpenAPI description of the core API, for implementers: `core_api.openapi.yaml` beside this module."""

from importlib.resources import files


def core_api_description() -> str:
    """The description, version 3.1 of OpenAPI, as YAML."""
    return (files("edge.run.core_api_check") / "core_api.openapi.yaml").read_text(encoding="utf-8")
