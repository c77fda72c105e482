"""A validated template in the form in which it is sent to workers, which need not validate it again."""

import msgspec


class PageRecord(msgspec.Struct, frozen=True, array_like=True):
    """A template and what it is for: see `template_files.PageKey` and `page_template.PageTemplate`."""

    site: str
    kind: str
    key_language: str
    is_default: bool
    name: str
    language: str
    texts: list[bytes]
    names: list[str]
