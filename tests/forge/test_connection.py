"""What it means when no answer came."""

from __future__ import annotations

import pytest
import requests

from cd4ml.gateways.forge.connection import unanswered
from cd4ml.gateways.forge.patience import pause

ADDRESS = "HTTPSConnectionPool(host='forge.example', port=443): secret-looking text"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (requests.exceptions.SSLError(ADDRESS), "its certificate is not trusted here"),
        (requests.exceptions.ConnectTimeout(ADDRESS), "it took too long"),
        (requests.exceptions.ReadTimeout(ADDRESS), "it took too long"),
        (requests.exceptions.ProxyError(ADDRESS), "the proxy does not let it through"),
        (requests.exceptions.ConnectionError(ADDRESS), "no connection"),
        (requests.exceptions.ChunkedEncodingError(ADDRESS), "no connection"),
        (requests.exceptions.InvalidURL(ADDRESS), "its answer cannot be read (InvalidURL)"),
    ],
)
def test_it_is_said_in_words_of_our_own(error: requests.RequestException, words: str) -> None:
    assert unanswered(error).message == words


def test_only_what_may_pass_is_tried_again() -> None:
    tried = [requests.Timeout(), requests.ConnectionError(), requests.exceptions.SSLError()]
    assert [pause(unanswered(error), 0, 0) is not None for error in tried] == [True, True, False]
