"""The picture of docs/performance.md: `python -m benchmarks.picture`, of what `benchmarks.bench --save` has written."""

import json
from pathlib import Path
from xml.sax.saxutils import escape

from tests.support import ROOT

FIGURES = ROOT / "benchmarks" / "results.json"
PICTURE = ROOT / "docs" / "performance.svg"

ROWS = ("whole, 1", "whole, 32", "whole, 128", "streamed, 1", "streamed, 32", "streamed, 128")
LEFT, WIDTH, ROW, TOP = 215, 430, 34, 64


def picture(figures: dict[str, dict[str, list[float]]]) -> str:
    """Bars of the rate beside the relay's, each with its spread."""
    bottom = TOP + ROW * len(ROWS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 60} {bottom + 44}" role="img" '
        'font-family="system-ui, sans-serif" font-size="14">',
        "<title>Requests a second, as a share of what a bare aiohttp relay does on the same core</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        '<text x="16" y="28" font-size="16" fill="#1b2733">'
        "Requests a second, as a share of a bare aiohttp relay</text>",
        '<text x="16" y="48" fill="#52606d">one core, everything on; the line is the spread over the rounds</text>',
    ]
    for tenth in range(0, 11, 2):
        x = LEFT + WIDTH * tenth / 10
        parts.append(f'<line x1="{x}" y1="{TOP - 6}" x2="{x}" y2="{bottom}" stroke="#dde3ea"/>')
        parts.append(f'<text x="{x}" y="{bottom + 20}" text-anchor="middle" fill="#52606d">{tenth / 10:.1f}</text>')
    for number, name in enumerate(ROWS):
        median, least, most = figures[name]["rate"]
        kind, _, connections = name.partition(", ")
        label = f"{kind}, {connections} connection{'s' * (connections != '1')}"
        y = TOP + ROW * number
        middle = y + ROW / 2 - 3
        parts += [
            f'<text x="{LEFT - 10}" y="{middle + 5}" text-anchor="end" fill="#1b2733">{escape(label)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{WIDTH * median:.1f}" height="{ROW - 8}" fill="#2f6f9f"/>',
            f'<line x1="{LEFT + WIDTH * least:.1f}" y1="{middle}" x2="{LEFT + WIDTH * most:.1f}" y2="{middle}" '
            'stroke="#0b2a40" stroke-width="2"/>',
            f'<text x="{LEFT + WIDTH * most + 8:.1f}" y="{middle + 5}" fill="#1b2733">{median:.2f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    Path(PICTURE).write_text(picture(json.loads(FIGURES.read_text())))
