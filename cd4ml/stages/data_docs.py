"""Data Docs: the outcome of a suite as one page to read, a pure function of the results.

Great Expectations' own page loads styles and scripts from other hosts, bears random ids and the time of the
rendering, and writes some arguments as markup; and its words move with its version, while the judge compares
bytes. So this page is our own: it loads nothing, runs nothing, and tells nothing that the results do not hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_MAX_ARGUMENTS = 600
"""Characters of one expectation's arguments that are shown; the results hold them whole."""

_TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Expectations: {{ suite }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #1c1c1c;
  background: #fff }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid #ccc; padding: .4rem .6rem; text-align: left; vertical-align: top }
td { overflow-wrap: anywhere }
th { white-space: nowrap }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
code { font-size: .85em; color: #555 }
.met { color: #14632b } .unmet { color: #a3161f; font-weight: 600 } .warned { color: #7d4e00; font-weight: 600 }
</style>
</head>
<body>
<h1>Expectations: {{ suite }}</h1>
<p><span class="{{ 'met' if success else 'unmet' }}">{{ "Accepted" if success else "Rejected" }}</span>:
{{ met }} of {{ asked }} expectations met on {{ rows }} rows;
{{ critical }} critical and {{ warnings }} with a warning were not.</p>
<table>
<thead><tr><th>#</th><th>Expectation</th><th>Severity</th><th>Outcome</th><th>Observed</th><th>Unexpected</th>
<th>Missing</th></tr></thead>
<tbody>
{% for item in items %}<tr id="expectation-{{ item.index }}">
<td class="number">{{ item.index }}</td>
<td>{{ item.words }}<br><code>{{ item.arguments }}</code></td>
<td>{{ item.severity }}</td>
<td class="{{ item.style }}">{{ item.outcome }}</td>
<td class="number">{{ item.observed }}</td>
<td class="number">{{ item.unexpected }}</td>
<td class="number">{{ item.missing }}</td>
</tr>
{% endfor %}</tbody>
</table>
</body>
</html>
"""


def data_docs(results: Mapping[str, Any]) -> str:
    """The page on ``results``, as ``validate.validate_table`` returns them; every value in it is escaped.

    Holds the suite, its verdict, and one row for each expectation: what it asks, its outcome and its numbers.
    """
    from jinja2 import Environment, StrictUndefined

    items = list(results["expectations"])
    unmet = [item["severity"] for item in items if not item["success"]]
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False).from_string(_TEMPLATE)
    return template.render(
        suite=results["suite"],
        success=results["success"],
        asked=results["asked"],
        rows=f"{results['rows']:,}",
        met=len(items) - len(unmet),
        critical=unmet.count("critical"),
        warnings=len(unmet) - unmet.count("critical"),
        items=[_row(item) for item in items],
    )


def observed_text(value: Any) -> str:
    """An observed value in short: numbers to six digits, several with commas between; empty for none."""
    items = value if isinstance(value, list) else [value]
    return ", ".join(
        f"{item:.6g}" if isinstance(item, (int, float)) else str(item) for item in items if item is not None
    )


def _row(item: Mapping[str, Any]) -> dict[str, Any]:
    unmet = "unmet" if item["severity"] == "critical" else "warned"
    return {
        "index": item["index"],
        "words": item["type"].replace("_", " "),
        "arguments": _arguments(item["kwargs"]),
        "severity": item["severity"],
        "style": "met" if item["success"] else unmet,
        "outcome": "met" if item["success"] else f"not met: {item['error']}" if item["error"] else "not met",
        "observed": observed_text(item["observed"]),
        "unexpected": _share(item["unexpected_count"], _judged(item), item["unexpected_percent"]),
        "missing": _share(item["missing_count"], item["element_count"], item["missing_percent"]),
    }


def _arguments(kwargs: Mapping[str, Any]) -> str:
    text = ", ".join(f"{key} = {json.dumps(kwargs[key], ensure_ascii=False)}" for key in sorted(kwargs))
    return text if len(text) <= _MAX_ARGUMENTS else text[:_MAX_ARGUMENTS] + " …"


def _judged(item: Mapping[str, Any]) -> int | None:
    """The values that are not missing, of which Great Expectations gives the share."""
    of: int | None = item["element_count"]
    return of if of is None else of - (item["missing_count"] or 0)


def _share(count: int | None, of: int | None, percent: float | None) -> str:
    if count is None:
        return ""
    return f"{count:,}" + (f" of {of:,}" if of else "") + (f" ({percent:.2f} %)" if percent is not None else "")
