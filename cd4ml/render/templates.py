"""One strict Jinja2 environment, in which a value can only be written by a dumper.

Delimiters are ``<{ }>``, ``<% %>`` and ``<# #>``: ``{{ }}`` belongs to Actions, ``[[ ]]`` and ``<< >>`` to shells.
The environment is sandboxed, knows no other templates (no include, no import), and every expression must end
in ``| yaml``, ``| json``, ``| actions``, ``| literal`` or ``| dvc``; what does not is an error, so no value is ever
pasted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from yaml import YAMLError

from cd4ml.errors import ConfigError, Problem
from cd4ml.spec.sources import ConfDumper

TEMPLATES = "templates/"


class _Dumped(str):
    """Text that a dumper wrote."""

    __slots__ = ()


class _FlowDumper(ConfDumper):
    """One line of YAML for any value: text other than simple ASCII words is written in quotes, with escapes."""


_WORDS = re.compile(r"[A-Za-z0-9_./]([A-Za-z0-9 _./*()+=-]*[A-Za-z0-9_./*()])?")


_ONE_LINE = re.compile(r"[ -~]*")


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if _WORDS.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_FlowDumper.add_representer(str, _represent_text)


def _given(value: Any) -> Any:
    """The value; raises UndefinedError for a name that the template was not given."""
    if isinstance(value, StrictUndefined):
        str(value)
    return value


def as_yaml(value: Any) -> str:
    """A value as YAML on one line, safe as a key or a value in block and flow style."""
    text = yaml.dump(
        _given(value),
        Dumper=_FlowDumper,
        default_flow_style=True,
        sort_keys=False,
        allow_unicode=False,
        width=float("inf"),
    )
    return _Dumped(text.removesuffix("\n").removesuffix("\n..."))


def as_json(value: Any) -> str:
    """A value as JSON on one line, ASCII only."""
    return _Dumped(json.dumps(_given(value), ensure_ascii=True, allow_nan=False))


def as_actions(value: str) -> str:
    """Text for a place where GitHub Actions evaluates expressions: an opening ``${{`` in it stays text.

    The only escape that Actions has is an expression that gives the two characters back:
    https://docs.github.com/actions/reference/evaluate-expressions-in-workflows-and-actions (literals).
    """
    return as_yaml(str(_given(value)).replace("${{", "${{ '${{' }}"))


def as_literal(value: str) -> str:
    """Text as a literal inside an expression of GitHub Actions that stands in a folded block (``>-``) of YAML.

    A quote is doubled, as the language has it. Text that could end the expression or the line is written in escapes of
    JSON, which ``fromJSON`` reads.
    """
    text = str(_given(value))
    if _ONE_LINE.fullmatch(text) and "{{" not in text and "}}" not in text:
        return _Dumped("'" + text.replace("'", "''") + "'")
    units = text.encode("utf-16-be", "surrogatepass")
    escaped = "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
    return _Dumped(f"fromJSON('\"{escaped}\"')")


def as_dvc(value: str) -> str:
    """Text for ``dvc.yaml``, where DVC replaces ``${…}``: an opening ``${`` in it stays text.

    https://dvc.org/doc/user-guide/project-structure/dvcyaml-files#templating (a backslash keeps an expression).
    """
    return as_yaml(str(_given(value)).replace("${", "\\${"))


def _only_dumped(value: Any) -> Any:
    if not isinstance(value, _Dumped):
        raise TypeError(
            "a value is pasted as it is: end the expression in | yaml, | json, | actions, | literal or | dvc"
        )
    return value


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        variable_start_string="<{",
        variable_end_string="}>",
        block_start_string="<%",
        block_end_string="%>",
        comment_start_string="<#",
        comment_end_string="#>",
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # YAML is written, not HTML; `finalize` is what keeps values apart from text
        finalize=_only_dumped,
    )
    environment.filters = {
        "yaml": as_yaml,
        "json": as_json,
        "actions": as_actions,
        "literal": as_literal,
        "dvc": as_dvc,
    }
    environment.tests = {name: environment.tests[name] for name in ("defined", "none", "string", "mapping", "in", "eq")}
    environment.globals = {}
    return environment


def render_template(name: str, templates: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """The text of template ``name`` (such as ``dvc.yaml.j2``) for these values.

    ``templates`` maps names relative to ``templates/`` to their text. Raises ConfigError, naming the template and
    where possible the line, for a missing template, wrong syntax, an unknown name, or a value that is pasted.
    """
    if name not in templates:
        raise ConfigError([Problem(f"{TEMPLATES}{name}", "", "is missing")])
    try:
        return _environment().from_string(templates[name]).render(values)
    except TemplateSyntaxError as error:
        message = error.message or "wrong syntax"
        raise ConfigError([Problem(f"{TEMPLATES}{name}", f"line {error.lineno}", message)]) from error
    except (TemplateError, YAMLError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        line = _line_of(error)
        raise ConfigError([Problem(f"{TEMPLATES}{name}", line, " ".join(str(error).split()))]) from error


def _line_of(error: Exception) -> str:
    """The line of the template at which an error was raised; Jinja2 rewrites its traceback to say so."""
    trace, line = error.__traceback__, 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"line {line}" if line else ""
