"""The two comment lines that every rendered file begins with: who wrote it, and short digests of what it was made of.

They tell a hand edit from a changed template and from a changed configuration without looking anywhere else.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

BY = "# rendered by cd4ml; edit templates/ or conf/, then run: cd4ml render"
_INPUTS = re.compile(r"# inputs: config (?P<config>\w{12}) template (?P<template>\w{12}) content (?P<content>\w{12})")


@dataclass(frozen=True)
class Header:
    """Short digests: of the values given to the template, of the template, and of all three parts together."""

    config: str
    template: str
    content: str


def sealed(body: str, config_digest: str, template_digest: str) -> str:
    """The file: the two lines, and below them ``body``."""
    config, template = config_digest[:12], template_digest[:12]
    inputs = f"# inputs: config {config} template {template} content {_content(config, template, body)}"
    return f"{BY}\n{inputs}\n{body}"


def read_header(text: str) -> Header | None:
    """The header of a file that nobody touched since it was rendered, or nothing."""
    by, _, rest = text.partition("\n")
    line, _, body = rest.partition("\n")
    match = _INPUTS.fullmatch(line)
    if by != BY or match is None or match["content"] != _content(match["config"], match["template"], body):
        return None
    return Header(match["config"], match["template"], match["content"])


def is_rendered(text: str) -> bool:
    """Is this a file that cd4ml wrote, edited since or not?"""
    return text.startswith(BY)


def _content(config: str, template: str, body: str) -> str:
    return hashlib.sha256(f"{config}\n{template}\n{body}".encode()).hexdigest()[:12]
