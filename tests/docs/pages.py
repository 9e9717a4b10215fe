"""Reading the documentation as its readers do: fenced blocks, shell sessions, tables, links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPECTED = re.compile(r"#\s*exits (\d+)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the word after it (a path, or nothing), and its text."""

    language: str
    title: str
    text: str


def pages() -> tuple[Path, ...]:
    """Every page of prose that this repository holds for its readers."""
    return (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))


def blocks(page: Path) -> tuple[Block, ...]:
    """The fenced blocks of a page, in order."""
    found = []
    for match in _FENCE.finditer(page.read_text("utf-8")):
        language, _, title = match["info"].strip().partition(" ")
        found.append(Block(language, title, match["body"]))
    return tuple(found)


def commands(block: Block) -> tuple[str, ...]:
    """The commands of a shell session, without their prompts."""
    return tuple(line.removeprefix("$ ") for line in block.text.splitlines() if line.startswith("$ "))


def expected_exit(command: str) -> int:
    """What the comment beside a command says that it exits with; 0 where it says nothing."""
    found = _EXPECTED.search(command)
    return int(found[1]) if found else 0


def table(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, its head left out."""
    text = page.read_text("utf-8")
    assert f"\n{heading}\n" in text, f"{page.name} has no heading {heading!r}"
    rows = []
    for line in text.split(f"\n{heading}\n", 1)[1].splitlines():
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))])
        elif rows or line.startswith("#"):
            break
    return rows[2:]


def code(cell: str) -> str:
    """The text of the first `code` in a cell."""
    found = re.search(r"`([^`]+)`", cell)
    assert found is not None, f"no `code` in {cell!r}"
    return found[1]
