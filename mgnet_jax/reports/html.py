"""Pages that need no network: text, tables and pictures in one HTML file."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1000px;padding:1rem;color:#1a1a1a;
background:#fff}
h1{font-size:1.6rem;line-height:1.25;overflow-wrap:anywhere}h2{font-size:1.2rem;margin-top:2rem}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem}
th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:left;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}
img{max-width:100%;height:auto}pre{overflow-x:auto;background:#f5f5f5;padding:.6rem;font-size:.85rem}
figure{margin:0;width:110px;font-size:.8rem;overflow-wrap:anywhere}
figure img{width:96px;height:96px;object-fit:contain;image-rendering:pixelated;background:#eee}
.row{display:flex;flex-wrap:wrap;gap:.6rem}
.confusion td{text-align:right;min-width:1.6rem}
@media(max-width:640px){img.plot{max-width:none;width:640px}}
@media(prefers-color-scheme:dark){body{background:#161616;color:#e4e4e4}pre{background:#242424}
th,td{border-color:#3a3a3a}a{color:#8ab4f8}figure img{background:#2a2a2a}.plot{background:#fff}}
"""


def page(title: str, *parts: str) -> str:
    """A whole page; parts are HTML."""
    name = html.escape(title)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{name}</title><style>{STYLE}</style></head><body><h1>{name}</h1>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def heading(text: str) -> str:
    """A section's heading."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Plain text."""
    return f"<p>{html.escape(text)}</p>"


def preformatted(text: str) -> str:
    """Text as it is, as a command or a table in letters."""
    return f"<pre>{html.escape(text)}</pre>"


def table(rows: Sequence[Mapping[str, Any]], kind: str = "") -> str:
    """Rows with the same keys, which are the columns' heads; wide ones scroll by themselves."""
    if not rows:
        return ""
    heads = "".join(f"<th>{html.escape(str(name))}</th>" for name in rows[0])
    lines = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in rows)
    marked = f' class="{kind}"' if kind else ""
    return f'<div class="wide"><table{marked}><tr>{heads}</tr>{lines}</table></div>'


def _cell(value: Any) -> str:
    text = html.escape(str(value))
    number = text[:1].isdigit() or (text[:1] in "-+±" and text[1:2].isdigit())
    return f'<td class="n">{text}</td>' if number else f"<td>{text}</td>"


def confusion(counts: np.ndarray, names: Sequence[str]) -> str:
    """Images by their class (rows) and the class that they were taken for (columns)."""
    most = max(int(counts.max()), 1)
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    lines = []
    for i, name in enumerate(names):
        cells = []
        for j in range(len(names)):
            share = counts[i, j] / most
            colour = f"rgba({'0,114,178' if i == j else '213,94,0'},{0.75 * share:.2f})"
            number = int(counts[i, j]) or ""
            cells.append(f'<td style="background:{colour}">{number}</td>')
        lines.append(f"<tr><th>{html.escape(name)}</th>{''.join(cells)}</tr>")
    return (
        '<div class="wide"><table class="confusion"><tr><th>class \\ taken for</th>'
        f"{heads}</tr>{''.join(lines)}</table></div>"
    )


def picture(image: np.ndarray, caption: str) -> str:
    """An image, uint8 (H, W, C), with words below it."""
    pixels = image[..., 0] if image.shape[-1] == 1 else image
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    words = html.escape(caption)
    return f'<figure><img alt="{words}" src="{_data(file.getvalue())}"><br>{words}</figure>'


def pictures(images: Sequence[np.ndarray], captions: Sequence[str]) -> str:
    """Images side by side."""
    both = zip(images, captions, strict=True)
    return f'<div class="row">{"".join(picture(x, words) for x, words in both)}</div>'


def plot(path: Path, words: str) -> str:
    """A PNG file's picture."""
    return figure(path.read_bytes(), words)


def figure(png: bytes, words: str) -> str:
    """A picture, the bytes of a PNG file."""
    image = f'<img class="plot" alt="{html.escape(words)}" src="{_data(png)}">'
    return f'<div class="wide">{image}</div>'


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
