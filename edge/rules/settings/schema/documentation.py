"""The documentation of settings: the strings that stand below the fields of a section in its source.

pydantic can attach them to the fields (`use_attribute_docstrings`), but then it reads and parses the sources at
every start of styx, which takes a fifth of it. Only the generated reference and the schema need them.
"""

import ast
import inspect
from functools import cache
from itertools import pairwise
from textwrap import dedent

from edge.rules.settings.section import Section


@cache
def documentation_of(section: type[Section]) -> dict[str, str]:
    """For each field of this section and of its bases the string below its declaration, cleaned of indentation."""
    found: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        if issubclass(kind, Section) and kind is not Section:
            found |= _strings_below_fields(kind)
    return found


def _strings_below_fields(kind: type[Section]) -> dict[str, str]:
    definition = ast.parse(dedent(inspect.getsource(kind))).body[0]
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in pairwise(definition.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found
