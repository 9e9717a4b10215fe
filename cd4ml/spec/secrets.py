"""Text that looks like a credential: configuration is committed and recorded for good, so it may hold none.

The patterns are the fixed prefixes that issuers publish so that scanners can find their tokens. None asks for
a word boundary before it: a message shows text with escapes, and the ``n`` of ``\\n`` must not hide a token.
Each takes time linear in the text: a repetition never runs over the characters that begin another match, or not far.
"""

from __future__ import annotations

import re

_PATTERNS = (
    ("a private key", re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----[\s\S]*")),
    ("a GitHub token", re.compile(r"gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,}")),
    ("a GitLab token", re.compile(r"glpat-[A-Za-z0-9_-]{20,}")),
    ("an AWS access key", re.compile(r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])")),
    ("a Google API key", re.compile(r"AIza[A-Za-z0-9_-]{35,}")),
    ("a Slack token", re.compile(r"xox[abprs]-[A-Za-z0-9-]{10,}")),
    ("a Hugging Face token", re.compile(r"hf_[A-Za-z0-9]{30,}")),
    ("an API key", re.compile(r"sk-(?:proj|svcacct|admin|ant)-[A-Za-z0-9_-]{20,}|sk-[A-Za-z0-9]{40,}")),
    ("a Databricks token", re.compile(r"dapi[0-9a-f]{32}")),
    ("a PyPI token", re.compile(r"pypi-AgE[A-Za-z0-9_-]{40,}")),
    ("an npm token", re.compile(r"npm_[A-Za-z0-9]{36,}")),
    ("an Azure storage key", re.compile(r"AccountKey=[A-Za-z0-9+/]{40,}={0,2}")),
    ("a JSON Web Token", re.compile(r"eyJ[A-Za-z0-9_-]{10,400}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*")),
    ("a password", re.compile(r"(?i:passw(?:or)?d|pwd)=[^\s'\"&;,]{4,}")),
    ("a password in a URL", re.compile(r"(?<=://)[^/\s:@]*:[^/\s]+@")),
)
_URL_USER = re.compile(r"(?<=://)[^/\s]+@")
"""A user's name in a URL may be a token too; it is not shown, and where it is refused is for others to say."""


def secret_kind(text: str) -> str | None:
    """What kind of credential the text seems to hold, or nothing. Never gives back any of the text."""
    return next((kind for kind, pattern in _PATTERNS if pattern.search(text)), None)


def redacted(text: str) -> str:
    """The text with ``…`` for whatever ``secret_kind`` finds in it, and for the user's name in a URL.

    Every message goes through here before it is cut to size: the first half of a token is no longer found.
    """
    for _, pattern in _PATTERNS:
        text = pattern.sub("…", text)
    return _URL_USER.sub("…", text)
