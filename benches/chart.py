"""The chart of what layers leave of a bare router's speed: bars in groups, as an SVG for light and dark pages."""

from html import escape

WIDTH, HEIGHT = 800, 340
LEFT, RIGHT, TOP, BOTTOM = 48, 16, 64, 36
GAP = 26  # between groups

STYLE = """
  text { font: 13px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 15px } .number { font-size: 11px } .axis { fill: #59636e }
  line { stroke: #d1d9e0 } .of-0 { fill: #0969da } .of-1 { fill: #9a6700 } .of-2 { fill: #8c959f }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .axis { fill: #9198a1 } line { stroke: #3d444d }
    .of-0 { fill: #4493f8 } .of-1 { fill: #d29922 } .of-2 { fill: #656c76 }
  }
"""


def chart(title, series, groups):
    """`series`: names. `groups`: (name, a share from 0 to 1 for each series or None), at most 3 series."""
    parts = [f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>']
    parts += legend(series)
    parts += axis()
    width = (WIDTH - LEFT - RIGHT) / len(groups)
    for place, (name, shares) in enumerate(groups):
        x = LEFT + place * width
        parts.append(text(name, x + width / 2, HEIGHT - BOTTOM + 20))
        parts += bars(shares, x + GAP / 2, (width - GAP) / len(series))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", *parts, "</svg>\n"])


def legend(series):
    x, parts = LEFT, []
    for place, name in enumerate(series):
        parts.append(f'<rect class="of-{place}" x="{x}" y="36" width="12" height="12" rx="2"/>')
        parts.append(f'<text x="{x + 18}" y="47">{escape(name)}</text>')
        x += 40 + 8 * len(name)
    return parts


def axis():
    for tenths in range(0, 11, 2):
        y = height_of(tenths / 10)
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="axis number" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tenths * 10} %</text>'


def bars(shares, x, width):
    for place, share in enumerate(shares):
        if share is None:
            continue
        left, y = x + place * width, height_of(min(share, 1))
        size = f'width="{width - 3:.1f}" height="{height_of(0) - y:.1f}"'
        yield f'<rect class="of-{place}" x="{left:.1f}" y="{y:.1f}" {size} rx="2"/>'
        yield text(f"{share * 100:.0f} %", left + width / 2 - 1.5, y - 4, "number")


def text(words, x, y, kind=""):
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(words)}</text>'


def height_of(share):
    return TOP + 12 + (1 - share) * (HEIGHT - TOP - 12 - BOTTOM)
