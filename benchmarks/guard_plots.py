"""Two figures as SVG: means with intervals, a row each, and curves with error bars over a logarithmic axis."""
import html
import math

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00", "#56b4e9", "#555555")  # Okabe and Ito's, darker
FONT = 'font-family="Helvetica, Arial, sans-serif"'
WIDTH = 900


def text(x, y, words, anchor="start", size=13, colour="#222222", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
            f'font-weight="{weight}" fill="{colour}" {FONT}>{html.escape(words)}</text>')


def line(x1, y1, x2, y2, colour="#222222", width=1.0):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{colour}" stroke-width="{width}"/>')


def dot(x, y, colour, radius=4):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"/>'


def document(height, title, parts):
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
                      f'width="{WIDTH}" height="{height}" role="img" aria-label="{html.escape(title)}">',
                      f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
                      text(20, 28, title, size=15, weight="bold"), *parts, "</svg>", ""])


def number(value, form="{:g}"):
    return form.format(value).replace("-", "\u2212")


def signed(value):
    return number(value, "{:+.2f}")


def steps(low, high, count=6):
    """Round numbers from low to high, about `count` of them."""
    raw = (high - low) / count
    size = 10 ** math.floor(math.log10(raw))
    size *= next(m for m in (1, 2, 5, 10) if m * size >= raw)
    return [i * size for i in range(math.ceil(low / size), math.floor(high / size) + 1)]


def intervals(title, axis, groups):
    """groups: (heading, rows of (label, mean, half width)); a line at 0."""
    left, right, top, pitch = 330, WIDTH - 90, 62, 24
    rows = [row for _, group in groups for row in group]
    low = min(0, min(mean - half for _, mean, half in rows))
    high = max(0, max(mean + half for _, mean, half in rows))
    margin = 0.04 * (high - low)
    low, high = low - margin, high + margin
    place = lambda value: left + (value - low) / (high - low) * (right - left)
    bottom = top + pitch * (len(rows) + len(groups))
    parts = []
    for tick in steps(low, high):
        parts.append(line(place(tick), top - 8, place(tick), bottom, "#dddddd"))
        parts.append(text(place(tick), bottom + 18, number(tick), "middle", 12))
    parts.append(line(place(0), top - 8, place(0), bottom, "#222222", 1.5))
    y = top
    for index, (heading, group) in enumerate(groups):
        parts.append(text(20, y + 5, heading, weight="bold"))
        colour = COLOURS[index % len(COLOURS)]
        for label, mean, half in group:
            y += pitch
            parts.append(text(left - 14, y + 4, label, "end"))
            parts.append(line(place(mean - half), y, place(mean + half), y, colour, 2.5))
            parts.append(dot(place(mean), y, colour))
            parts.append(text(right + 12, y + 4, signed(mean), size=12))
        y += pitch
    parts.append(text((left + right) / 2, bottom + 40, axis, "middle"))
    return document(bottom + 56, title, parts)


def curves(title, x_axis, y_axis, lines):
    """lines: (label, points of (x, y, half width of y, label)), x on a logarithmic axis."""
    left, right, top, bottom = 70, WIDTH - 270, 56, 470
    points = [point for _, line_points in lines for point in line_points]
    x_low, x_high = min(p[0] for p in points) / 1.25, max(p[0] for p in points) * 1.25
    y_low, y_high = min(p[1] - p[2] for p in points), max(p[1] + p[2] for p in points)
    margin = 0.05 * (y_high - y_low)
    y_low, y_high = y_low - margin, y_high + margin
    across = lambda x: left + math.log(x / x_low) / math.log(x_high / x_low) * (right - left)
    up = lambda y: bottom - (y - y_low) / (y_high - y_low) * (bottom - top)
    parts = []
    for power in range(math.floor(math.log10(x_low)), math.ceil(math.log10(x_high)) + 1):
        for tick in (10 ** power, 2 * 10 ** power, 5 * 10 ** power):
            if x_low <= tick <= x_high:
                parts.append(line(across(tick), top, across(tick), bottom, "#dddddd"))
                parts.append(text(across(tick), bottom + 18, f"{tick:,g}", "middle", 12))
    for tick in steps(y_low, y_high):
        parts.append(line(left, up(tick), right, up(tick), "#dddddd"))
        parts.append(text(left - 8, up(tick) + 4, number(tick), "end", 12))
    legend = top + 10
    for index, (label, line_points) in enumerate(lines):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y, _, _ in line_points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, half, name in line_points:
            parts.append(line(across(x), up(y - half), across(x), up(y + half), colour, 1.5))
            parts.append(dot(across(x), up(y), colour))
            parts.append(text(across(x) + 7, up(y) + 15, name, size=11, colour=colour))
        parts.append(line(right + 20, legend - 4, right + 44, legend - 4, colour, 2.5))
        parts.append(text(right + 52, legend, label))
        legend += 24
    parts.append(text((left + right) / 2, bottom + 42, x_axis, "middle"))
    parts.append(f'<text transform="translate(20 {(top + bottom) / 2:.0f}) rotate(-90)" '
                 f'text-anchor="middle" font-size="13" fill="#222222" {FONT}>{html.escape(y_axis)}</text>')
    return document(bottom + 58, title, parts)
