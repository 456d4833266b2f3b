"""Plots as SVG, written by hand: they need no library and read well as text."""

import math
from html import escape

from rows import ROWS

WIDTH, HEIGHT = 320, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 34, 34
COLOURS = ("#2563a8", "#c2571a", "#4a8a3b", "#8a4fa0")
STYLE = ("text{font:11px sans-serif;fill:#333}.title{font-weight:bold;font-size:12px}"
         ".axis{stroke:#999;stroke-width:1}.grid{stroke:#e4e4e4;stroke-width:1}")


def write(found, directory):
    """Writes the plots that there are figures for."""
    drawn = {"growth": growth(found), "cpu": cpu(found), "interference": interference(found)}
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in drawn.items():
        if text:
            (directory / f"{name}.svg").write_text(text)


def document(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}">\n<style>{STYLE}</style>\n<rect width="100%" height="100%" fill="#fff"/>\n'
            + "\n".join(parts) + "\n</svg>\n")


def text(x, y, words, anchor="start", kind=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(words)}</text>'


def line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def short(value):
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    if value >= 1e3:
        return f"{value / 1e3:g}k"
    return f"{value:g}"


def round_up(value):
    """The next of 1, 2, 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


class Panel:
    """A small chart: values from zero, over steps at equal distances."""

    def __init__(self, x, y, title, labels, most):
        self.x, self.y, self.labels, self.most = x, y, labels, round_up(most)
        self.parts = [text(x + LEFT, y + 16, title, kind="title")]
        for quarter in range(5):
            value = self.most * quarter / 4
            at = self.height_of(value)
            self.parts.append(line(x + LEFT, at, x + WIDTH - RIGHT, at, "axis" if quarter == 0 else "grid"))
            self.parts.append(text(x + LEFT - 5, at + 4, short(float(f"{value:.3g}")), "end"))
        for index, label in enumerate(labels):
            self.parts.append(text(self.place_of(index), y + HEIGHT - BOTTOM + 16, label, "middle"))

    def place_of(self, index):
        room = WIDTH - LEFT - RIGHT - 30
        return self.x + LEFT + 15 + (room * index / (len(self.labels) - 1) if len(self.labels) > 1 else room / 2)

    def height_of(self, value):
        return self.y + HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self.most

    def curve(self, values, colour):
        points = [(self.place_of(index), self.height_of(value)) for index, value in enumerate(values)
                  if value is not None]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]


def growth(found):
    """CPU a delivery over the number of queues, connections, consumers, bindings, waiting messages."""
    parts, index = [], 0
    names = []
    for name, series in found.get("growth", {}).items():
        curves = {broker: [point["cpu_delivery"] for point in points]
                  for broker, points in series["brokers"].items()}
        every = [value for curve in curves.values() for value in curve if value is not None]
        if not every:
            continue
        steps = [short(point["at"]) for point in next(iter(series["brokers"].values()))]
        panel = Panel(index % 3 * WIDTH, index // 3 * HEIGHT, f"CPU µs a delivery, by {name}", steps, max(every))
        for place, (broker, curve) in enumerate(curves.items()):
            panel.curve(curve, COLOURS[place % len(COLOURS)])
            if broker not in names:
                names.append(broker)
        parts += panel.parts
        index += 1
    if not parts:
        return ""
    rows_of_panels = (index + 2) // 3
    parts += legend(names, rows_of_panels * HEIGHT + 14)
    return document(3 * WIDTH, rows_of_panels * HEIGHT + 26, parts)


def legend(names, y):
    parts = []
    for place, name in enumerate(names):
        x = LEFT + place * 150
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{COLOURS[place % len(COLOURS)]}"/>')
        parts.append(text(x + 15, y, name))
    return parts


def bars(title, entries, unit, note=""):
    """Horizontal bars on a logarithmic scale: entries are (label, [(name, value)])."""
    names = []
    for _, values in entries:
        names += [name for name, _ in values if name not in names]
    every = [value for _, values in entries for _, value in values]
    low = 10 ** math.floor(math.log10(min(every)))
    high = 10 ** math.ceil(math.log10(max(every) * 1.001))
    left, width, bar = 190, 700, 11
    room = width - left - 70
    place = lambda value: left + room * math.log(value / low) / math.log(high / low)
    parts = [text(left, 18, title, kind="title")]
    y = 40
    top = y - 8
    for label, values in entries:
        parts.append(text(left - 8, y + bar * len(values) / 2 + 4, label, "end"))
        for name, value in values:
            colour = COLOURS[names.index(name) % len(COLOURS)]
            parts.append(f'<rect x="{left}" y="{y}" width="{max(place(value) - left, 1):.1f}" height="{bar - 2}" '
                         f'fill="{colour}"/>')
            parts.append(text(place(value) + 4, y + bar - 3, f"{value:.3g} {unit}"))
            y += bar
        y += 8
    grid = []
    power = low
    while power <= high * 1.001:
        grid += [line(place(power), top, place(power), y, "grid"), text(place(power), y + 12, short(power), "middle")]
        power *= 10
    return document(width, y + 40, grid + parts + legend(names, y + 32) + [text(width - 8, y + 32, note, "end")])


def cpu(found):
    """The broker's CPU a message, beside that of the best peer."""
    entries = []
    for row in ROWS:
        figure = "cpu_delivery" if "cpu_delivery" in row.peer else "cpu"
        measured = found.get("rows", {}).get(row.name, {}).get("leveret", {}).get("median", {})
        if measured.get(figure) and row.peer.get(figure) and not row.name.startswith("h-"):
            peer = row.peer[figure]
            entries.append((f"{row.name}: {row.what}"[:34], [("Leveret", measured[figure]), ("best peer", peer)]))
    return entries and bars("Broker CPU a message, logarithmic", entries, "µs") or ""


def interference(found):
    """The p99 of quiet queues beside disturbances."""
    measured = found.get("interference", {}).get("leveret")
    if not measured:
        return ""
    entries = [("nothing", [(kind, max(each["p99"], 1)) for kind, each in measured["quiet"].items()])]
    for name, entry in measured["beside"].items():
        if "same" in entry:
            entries.append((name, [(kind, max(each["p99"], 1)) for kind, each in entry["same"].items()]))
    return bars("p99 of a quiet queue beside a disturbance of the same broker, logarithmic", entries, "µs")
