"""Text that looks like a credential: configuration is committed and recorded for good, so it may hold none.

The patterns are the fixed prefixes that issuers publish so that scanners can find their tokens.
"""

from __future__ import annotations

import re

_PATTERNS = (
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})")),
    ("a GitLab token", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("an AWS access key", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("a Google API key", re.compile(r"\bAIza[A-Za-z0-9_-]{35}")),
    ("a Slack token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    ("a password in a URL", re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@")),
)


def secret_kind(text: str) -> str | None:
    """What kind of credential the text seems to hold, or nothing. Never gives back any of the text."""
    return next((kind for kind, pattern in _PATTERNS if pattern.search(text)), None)
