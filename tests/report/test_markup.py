"""Text from outside stays text, in Markdown as a real parser reads it and in what a forge does with its result."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from cd4ml.report.markup import code, fenced, html_code, html_prose, image, is_web, link, own, prose, seen
from cd4ml.report.visible import visible
from tests.report.review_world import HOSTILE

PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TURN = "\u200e"
TEXTS = st.one_of(st.text(), st.text("`|\\ *_<>&#@[]()!:/.-+=~$^{}\"'\n1aעx"), st.sampled_from(HOSTILE))


class Page(HTMLParser):
    """The elements of HTML with their attributes, its text, and the text that stands outside ``code``."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.other: list[str] = []
        self.text = ""
        self.open_text = ""
        self._in_code = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))
        self._in_code += tag in ("code", "pre")

    def handle_endtag(self, tag: str) -> None:
        self._in_code -= tag in ("code", "pre")

    def handle_data(self, data: str) -> None:
        self.text += data
        self.open_text += "\0" if self._in_code else data

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    def handle_decl(self, decl: str) -> None:
        self.other.append(decl)

    def handle_pi(self, data: str) -> None:
        self.other.append(data)


def tags(page: Page) -> list[str]:
    return [tag for tag, _ in page.elements]


def bare(text: str) -> str:
    """Text without blanks, and without the backticks that set off a part of a sentence."""
    return re.sub(r"[\s`]", "", text.replace(TURN, ""))


LINKED = re.compile(
    r"""@[\w-] | [\w.+-]@ | \#\d | \b[A-Za-z]+-\d | \b[0-9a-fA-F]{7,40}\b | :// | www\. | :[\w+-]+: | \$ | ~ | %[\w"]
    | [!&*]\d | ^\s*/\w | \[ | \{ | ::""",
    re.VERBOSE | re.MULTILINE,
)
"""What forges make something of: mentions, references, commits, addresses, emoji, formulas, commands."""


@pytest.mark.parametrize("text", HOSTILE)
def test_the_check_for_what_a_forge_would_link_is_one_that_can_fail(text: str) -> None:
    harmless = {"", " ", "\\", "`", "===", "---", "1. one", "> quoted", "    indented", "\ud800", "e\u0301 日本 ß"}
    markup = ("`code`", "a|b", "line", "\r\n", "\u202e", "</", "<!--", "-->", "[", "| a", "עב", "\x1b", "aaa", "&amp;")
    assert LINKED.search(text) or text in harmless or text.startswith(markup)


@given(TEXTS)
@example("` `")
@example("a\\|b")
@example("\\")
def test_a_code_span_holds_the_visible_text_and_nothing_else(text: str) -> None:
    page = Page(PARSER.render(f"before {code(text)} after"))
    assert tags(page) == ["p", "code"]
    assert page.text.replace(TURN, "").removesuffix("\n") == f"before {seen(text)} after"


@given(TEXTS)
@example("\\|")
@example("|\\")
@example("a`|`b")
def test_in_a_table_a_code_span_breaks_no_row_and_no_cell(text: str) -> None:
    rows = f"| a | b |\n|---|---|\n| {code(text, in_table=True)} | {prose(text, in_table=True)} |\n| x | y |"
    page = Page(PARSER.render(rows))
    shape = ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td", "tr", "td", "td"]
    assert [tag for tag in tags(page) if tag != "code"] == shape
    told = [line for line in page.text.replace(TURN, "").split("\n") if line]
    name, words = (shown.replace("\\|", "\\\\x7c") for shown in (seen(text), seen(text, 600)))
    assert [*told[:3], *told[4:]] == ["a", "b", name, "x", "y"]
    assert bare(told[3]) == bare(words) or len(text) > 80


@given(TEXTS)
def test_of_words_nothing_is_markup_and_what_a_forge_could_link_is_code(text: str) -> None:
    page = Page(PARSER.render(f"Note: {prose(text)}"))
    assert set(tags(page)) <= {"p", "code"}
    assert bare(page.text) == bare(f"Note: {seen(text, 600)}") or len(text) > 80
    assert not LINKED.search(page.open_text.replace("Note:", "")), page.open_text


@given(TEXTS)
def test_words_that_begin_a_line_begin_no_list_no_heading_and_no_command(text: str) -> None:
    for line in (prose(text), code(text)):
        assert not line.startswith(("/", "#", ">", "    ", "::", "---", "==="))
        page = Page(PARSER.render(line))
        assert set(tags(page)) <= {"p", "code"}


@given(TEXTS)
def test_in_html_within_markdown_the_same_holds(text: str) -> None:
    block = f"<details>\n<summary>{html_code(text)} and {html_prose(text)}</summary>\n\nplain\n\n</details>"
    page = Page(PARSER.render(block))
    assert [tag for tag in tags(page) if tag != "code"] == ["details", "summary", "p"]
    assert not page.other
    assert not LINKED.search(page.open_text)
    assert seen(text) in page.text


@given(TEXTS)
def test_a_command_to_paste_is_one_line_of_code(text: str) -> None:
    page = Page(PARSER.render(fenced(text)))
    assert tags(page) == ["pre", "code"]
    assert page.text.removesuffix("\n") == f"{visible(text)}\n"


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1).map(str.strip))
def test_words_of_ours_are_no_markup_either(text: str) -> None:
    page = Page(PARSER.render(f"x {own(text)} x"))
    assert tags(page) == ["p"]
    assert page.text == f"x {text} x\n"


@pytest.mark.parametrize(
    "word", ["better,", "don't", "non-linear", "(95", "%),", "-3.94", "…", "1,000.", "1e-12", "Täst", "→"]
)
def test_plain_words_and_numbers_are_left_as_they_are(word: str) -> None:
    assert prose(f"so {word}") == f"so {word}"


@pytest.mark.parametrize(
    "word", ["a@b", "GH-1", "x_y", "a.b", "deadbee", "1234567", "#1", "/close", ":x:", "עב", "a/b"]
)
def test_every_other_word_is_code(word: str) -> None:
    assert prose(f"so {word} it").startswith(f"so `{word}`")


def test_what_a_sentence_quotes_in_backticks_is_code() -> None:
    assert prose("not run: `cd4ml reconcile exp/a`, then `x`.") == "not run: `cd4ml reconcile exp/a`, then `x`."
    assert prose("`@a #1` and `b") == "`@a #1` and `` `b ``"


def test_numbers_behind_a_name_that_is_written_from_right_to_left_are_not_turned_around() -> None:
    assert code("עברית") == "`עברית`&lrm;"
    assert html_code("עברית").endswith("</code>&lrm;")


def test_a_long_text_is_cut_and_says_so() -> None:
    assert seen("x" * 200) == "x" * 79 + "…"
    assert seen("\n" * 200) == ("\\x0a" * 20)[:79] + "…"


@pytest.mark.parametrize(
    "address",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil.example",
        "https://a.example/\n",
        'https://a.example/"x',
        "https://a/<b>",
        "",
    ],
)
def test_only_an_address_of_the_web_becomes_a_link_or_an_image(address: str) -> None:
    assert not is_web(address)
    assert link("the whole", address) == "the whole"
    assert "<img" not in image(address, "a plot")


def test_a_link_and_an_image_hold_their_address_and_no_other_attribute() -> None:
    address = "https://forge.example/a/b/raw/c0ffee/x.png?a=1&b=2"
    (element,) = Page(image(address, '"><script>@x\n')).elements
    assert element == ("img", (("src", address), ("alt", '"><script>@x\\x0a')))
    assert Page(link("the whole", address)).elements == [("a", (("href", address),))]


def test_the_comma_behind_a_piece_of_code_is_none_of_it() -> None:
    assert prose("the change of roc_auc, -0.1 to 0.2, holds 0") == "the change of `roc_auc`, -0.1 to 0.2, holds 0"
