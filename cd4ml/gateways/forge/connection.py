"""What it means when no answer came, or one that the client library cannot read."""

from __future__ import annotations

import requests

from cd4ml.gateways.forge.patience import Failure


def unanswered(error: requests.RequestException) -> Failure:
    """No word of the library's own: its texts hold addresses, and its objects' names."""
    if isinstance(error, requests.exceptions.SSLError):
        return Failure(None, "its certificate is not trusted here", is_final=True)
    if isinstance(error, requests.Timeout):
        return Failure(None, "it took too long")
    if isinstance(error, requests.exceptions.JSONDecodeError | requests.exceptions.InvalidURL):
        return unreadable(error)
    if isinstance(error, requests.exceptions.ProxyError):
        return Failure(None, "the proxy does not let it through")
    return Failure(None, "no connection")


def unreadable(error: Exception) -> Failure:
    """The answer has another form than the library expects."""
    return Failure(None, f"its answer cannot be read ({type(error).__name__})", is_final=True)
