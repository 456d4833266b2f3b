"""Figures as text: side by side for the terminal, and as tables for the documentation."""

from rows import ROWS

# How figures are called and written.
NAMES = {
    "published": ("published/s", "rate"),
    "consumed": ("delivered/s", "rate"),
    "operations": ("operations/s", "rate"),
    "opened": ("opened/s", "rate"),
    "drained": ("drained/s", "rate"),
    "cpu": ("CPU µs", "number"),
    "cpu_delivery": ("CPU µs a delivery", "number"),
    "latency_p50": ("latency p50", "time"),
    "latency_p99": ("latency p99", "time"),
    "confirm_p50": ("confirm p50", "time"),
    "confirm_p99": ("confirm p99", "time"),
    "rss": ("RSS MB", "number"),
    "kib_each": ("KiB each", "number"),
    "start_ms": ("start ms", "number"),
    "restart_ms": ("restart after kill -9, ms", "number"),
    "binary_mb": ("binary MB", "number"),
    "mb_s": ("MB/s", "number"),
    "disk_mb_s": ("disk alone, MB/s", "number"),
    "of_disk": ("of the disk", "number"),
    "others_cpu": ("cores used by others", "number"),
}
RATES = ("published", "consumed", "operations", "opened", "drained", "mb_s", "of_disk")


def rate(value):
    if value >= 1e6:
        return f"{value / 1e6:.3g} M"
    if value >= 1e3:
        return f"{value / 1e3:.3g} k"
    return f"{value:.3g}"


def duration(value):
    """Microseconds for people."""
    return f"{value:.0f} µs" if value < 1000 else f"{value / 1000:.3g} ms"


def number(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def shown(figure, value):
    if value is None:
        return "–"
    kind = NAMES.get(figure, (figure, "number"))[1]
    return {"rate": rate, "time": duration, "number": number}[kind](value)


def called(figure):
    return NAMES.get(figure, (figure, ""))[0]


def is_reached(figure, value, wanted):
    return value >= wanted if figure in RATES else value <= wanted


def middles(found, row):
    """The medians of a row for each broker that has them."""
    each = found.get("rows", {}).get(row.name, {})
    return {name: measured["median"] for name, measured in each.items() if "median" in measured}


def show(found):
    """Prints rows: of one broker in a line each, of several side by side with ratios to the first."""
    names = found.get("brokers", [])
    if not found.get("rows"):
        return
    if len(names) == 1:
        show_one(found, names[0])
        return
    widths = "  ".join(f"{name:>14}" for name in names)
    others = "  ".join(f"{'to ' + names[0]:>14}" for _ in names[1:])
    print(f"\n{'row':16} {'figure':24} {widths}  {others}")
    for row in ROWS:
        for figure, values in side_by_side(found, row, names):
            cells = "  ".join(f"{shown(figure, value):>14}" for value in values)
            ratios = "  ".join(f"{ratio(value, values[0]):>14}" for value in values[1:])
            print(f"{row.name:16} {called(figure):24} {cells}  {ratios}".rstrip())


def show_one(found, name):
    columns = ("cpu", "cpu_delivery", "latency_p50", "latency_p99", "confirm_p50", "confirm_p99", "rss")
    print(f"\n{'row':16} {'rate':>12}" + "".join(f"{called(figure):>18}" for figure in columns))
    for row in ROWS:
        middle = middles(found, row).get(name)
        if middle is None:
            continue
        cells = "".join(f"{shown(figure, middle.get(figure)):>18}" for figure in columns)
        print(f"{row.name:16} {shown(row.rate, middle.get(row.rate)):>12}{cells}  {target(row, middle)}")


def target(row, middle):
    """How a row did, in words."""
    known = [figure for figure in row.reach if figure in middle]
    missed = [figure for figure in known if not is_reached(figure, middle[figure], row.reach[figure])]
    if not known:
        return ""
    return "not reached: " + ", ".join(called(figure) for figure in missed) if missed else "reached"


def side_by_side(found, row, names):
    middle = middles(found, row)
    if not middle:
        return
    every = [figure for figure in NAMES if any(figure in middle.get(name, {}) for name in names)]
    for figure in every:
        yield figure, [middle.get(name, {}).get(figure) for name in names]


def ratio(value, first):
    return "" if not value or not first else f"{value / first:.3g}x"


def markdown(head, lines):
    """A table; the first column is text, others are figures."""
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, rule, *lines])
