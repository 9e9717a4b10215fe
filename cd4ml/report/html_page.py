"""A review as one HTML page that needs nothing else: no script, no font, no image from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from cd4ml.promotion.review import Review
from cd4ml.report.document import MARKS, Bullets, Code, Grid, Judged, Prose, Shell, Strong
from cd4ml.report.markup import seen
from cd4ml.report.sections import document_of
from cd4ml.report.visible import visible

if TYPE_CHECKING:
    from jinja2 import Template

    from cd4ml.report.plots import Plot

_TEMPLATE = "report.html.j2"
_NEVER = 1 << 30
_KINDS: dict[str, type] = {
    "code": Code,
    "prose": Prose,
    "strong": Strong,
    "judged": Judged,
    "grid": Grid,
    "bullets": Bullets,
    "shell": Shell,
}


def html_report(review: Review, plots: Sequence[Plot]) -> str:
    """The whole report, nothing of it cut; the plots are in the page itself.

    What could bring in anything from outside is forbidden by the page's own policy as well, and every value is
    escaped by the template's environment.
    """
    document = document_of(review)
    pictures = [(plot, f"data:image/png;base64,{base64.b64encode(plot.png).decode()}") for plot in plots]
    return _template().render(document=document, plots=pictures, branch=review.branch, marks=MARKS)


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    for name, kind in _KINDS.items():
        environment.tests[name] = _is(kind)
    environment.filters["seen"] = lambda text: seen(text, _NEVER)
    environment.filters["visible"] = visible
    return environment.from_string(files("cd4ml.report").joinpath(_TEMPLATE).read_text("utf-8"))


def _is(kind: type) -> Any:
    return lambda value: isinstance(value, kind)
