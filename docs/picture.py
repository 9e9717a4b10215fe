"""Makes docs/images/report.png: a report as a forge shows it.

    python docs/picture.py report.md --style node_modules/github-markdown-css --browser chromium

``report.md`` is what ``cd4ml report -o report.md --plots`` writes; the style is the npm package
``github-markdown-css``. Neither the style nor the browser is part of cd4ml.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from markdown_it import MarkdownIt
from PIL import Image, ImageChops

WIDTH = 920
_TALLEST = 4000
_COLOURS = 255
_BACK = {"light": "#ffffff", "dark": "#0d1117"}
_OPTIONS = (
    *("--headless", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
_PAGE = """<!doctype html><meta charset="utf-8"><base href="{beside}/"><style>{style}
body {{ margin: 0; background: {back}; }} .markdown-body {{ padding: 20px 28px; font-size: 14px; }}
</style><article class="markdown-body">{body}</article>"""


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("--style", type=Path, required=True)
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--scheme", choices=sorted(_BACK), default="light")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "images" / "report.png")
    parser.add_argument("--open", type=int, nargs="*", default=[], help="the folds (from 0) that are shown open")
    asked = parser.parse_args()
    style = (asked.style / f"github-markdown-{asked.scheme}.css").read_text("utf-8")
    body = _opened(MarkdownIt("commonmark").enable("table").render(asked.report.read_text("utf-8")), asked.open)
    beside = asked.report.resolve().parent.as_uri()
    picture = _shot(asked.browser, _PAGE.format(beside=beside, style=style, back=_BACK[asked.scheme], body=body))
    asked.output.parent.mkdir(exist_ok=True)
    picture.quantize(_COLOURS, dither=Image.Dither.NONE).save(asked.output, optimize=True)


def _opened(body: str, folds: list[int]) -> str:
    before, *parts = body.split("<details>")
    return before + "".join(f"<details{' open' if number in folds else ''}>{part}" for number, part in enumerate(parts))


def _shot(browser: str, html: str) -> Image.Image:
    """The page as the browser draws it, without what is empty below it."""
    with tempfile.TemporaryDirectory() as folder:
        page, picture = Path(folder) / "page.html", Path(folder) / "page.png"
        page.write_text(html, "utf-8")
        where = (f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{_TALLEST}", f"--screenshot={picture}")
        root = ("--no-sandbox",) if os.geteuid() == 0 else ()
        subprocess.run([browser, *_OPTIONS, *root, *where, page.as_uri()], check=True, capture_output=True)
        with Image.open(picture) as image:
            shot = image.convert("RGB")
    empty = Image.new("RGB", shot.size, shot.getpixel((0, shot.height - 1)))
    box = ImageChops.difference(shot, empty).getbbox()
    return shot.crop((0, 0, WIDTH, min(shot.height, (box[3] if box else 0) + 20)))


if __name__ == "__main__":
    main()
