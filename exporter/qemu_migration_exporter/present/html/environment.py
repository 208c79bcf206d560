"""Templates of the pages, with their inline style and script.

A page loads no other resource. Its Content-Security-Policy allows only this style and this script, by their hashes, so
that the name of a virtual machine can never become code.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """Return the hash of a text as a source expression of Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_STYLE: Final = _resource("style.css")
_SCRIPT: Final = _resource("refresh.js")

HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_source(_STYLE)}; script-src {_source(_SCRIPT)}; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}

ENVIRONMENT: Final = Environment(
    loader=FunctionLoader(_resource), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
ENVIRONMENT.globals["style"] = Markup(_STYLE)  # noqa: S704 - a file of this package, without `<`
ENVIRONMENT.globals["script"] = Markup(_SCRIPT)  # noqa: S704 - as above
