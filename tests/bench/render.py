"""docs/PERFORMANCE.md: fills the places between `<!-- NAME -->` and `<!-- /NAME -->` with figures."""

import re

import plots
import tables
from interference import REACH_MAX_US, REACH_P99_US
from rows import ROWS
from tables import called, is_reached, markdown, middles, number, ratio, shown


def into(docs, found):
    page = docs / "PERFORMANCE.md"
    text = page.read_text()
    for name, part in PARTS.items():
        filled = part(found)
        if filled:
            place = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.S)
            text, count = place.subn(lambda match: match[1] + filled + "\n" + match[2], text)
            assert count == 1, f"{page} has no place for {name}"
    page.write_text(text)
    plots.write(found, docs / "performance")


def of_leveret(found, row):
    return middles(found, row).get("leveret", {})


def machine(found):
    known = found.get("machine")
    if not known:
        return ""
    return (f"{known['cores']} virtual cores ({known['processor']}), {known['memory_gb']} GB of memory, "
            f"Linux {known['kernel']}.")


def targets(found):
    """Every row with a target: the peer, what was to be reached, what was."""
    lines = []
    for row in ROWS:
        middle = of_leveret(found, row)
        if not middle or not row.reach:
            continue
        missed = [figure for figure, wanted in row.reach.items()
                  if figure in middle and not is_reached(figure, middle[figure], wanted)]
        lines.append([row.name, row.what, cell(row.peer, row.peer), cell(row.reach, row.reach),
                      cell(middle, {**row.reach, **with_cpu(row, middle)}), verdict(missed)])
    return lines and markdown(["row", "load", "best peer", "to reach", "Leveret", ""], lines) or ""


def with_cpu(row, middle):
    """What is told beside what was asked for."""
    told = ("cpu", "cpu_delivery", "confirm_p99", "rss")
    keep = {figure: None for figure in told if figure in middle}
    if row.rate == "consumed":
        keep.pop("cpu", None)
    elif "drained" not in middle:
        keep.pop("cpu_delivery", None)
    return keep


def cell(values, which):
    parts = [f"{called(figure)} {shown(figure, values[figure])}" for figure in tables.NAMES
             if figure in which and values.get(figure) is not None]
    return "; ".join(parts) or "–"


def verdict(missed):
    return "reached" if not missed else "not: " + ", ".join(called(figure) for figure in missed)


def cliffs(found):
    """Rows that are compared with another row."""
    by_name = {row.name: row for row in ROWS}
    lines = []
    for row in ROWS:
        middle = of_leveret(found, row)
        if not middle or row.beside is None:
            continue
        other, figure, most = row.beside
        base = of_leveret(found, by_name[other]).get(figure)
        value = middle.get(figure)
        if not base or not value:
            continue
        word = "reached" if value <= base * most else "not"
        lines.append([row.what, by_name[other].what, number(base), number(value), ratio(value, base),
                      f"{most:g}x", word])
    head = ["load", "compared with", "CPU µs there", "CPU µs", "ratio", "most", ""]
    return lines and markdown(head, lines) or ""


def growth(found):
    series = found.get("growth", {})
    lines = []
    for name, part in series.items():
        points = part["brokers"].get("leveret", [])
        base = next((point["cpu_delivery"] for point in points if point["cpu_delivery"]), None)
        for point in points:
            rss = point["rss"]
            lines.append([f"{point['at']:,} {name}" if name != "backlog" else f"backlog of {point['at']:,}",
                          shown("consumed", point["consumed"]), shown("cpu_delivery", point["cpu_delivery"]),
                          ratio(point["cpu_delivery"], base), shown("rss", rss)])
    return lines and markdown(["with", "delivered/s", "CPU µs a delivery", "ratio", "peak RSS MB"], lines) or ""


def interference(found):
    measured = found.get("interference", {}).get("leveret")
    if not measured:
        return ""
    quiet = measured["quiet"]
    lines = [["nothing", *(shown("latency_p99", quiet[kind]["p99"]) for kind in quiet for _ in "ab"),
              shown("latency_p99", max(each["max"] for each in quiet.values())), "", ""]]
    for entry in measured["beside"].values():
        cells = []
        worst = 0
        for kind in quiet:
            for where in ("same", "other"):
                each = entry.get(where, {}).get(kind)
                cells.append("–" if each is None else f"{shown('latency_p99', each['p99'])} "
                             f"({ratio(each['p99'], quiet[kind]['p99'])})")
            same = entry.get("same", {}).get(kind)
            worst = max(worst, same["p99"] / quiet[kind]["p99"]) if same else worst
        most = {key: max(each[key] for each in entry["same"].values()) for key in ("p99", "max")} if "same" in entry else None
        bounded = most and most["p99"] <= REACH_P99_US and most["max"] <= REACH_MAX_US
        cells.append(shown("latency_p99", most["max"]) if most else "–")
        lines.append([entry["what"], *cells, "reached" if worst <= 3 else "not", "reached" if bounded else "not"])
    head = ["beside", "transient, same broker", "transient, other broker", "confirm, same broker",
            "confirm, other broker", "worst of both, same broker", "3x", "p99 20 ms, worst 100 ms"]
    return markdown(head, lines)


def idle(found):
    measured = found.get("idle", {}).get("leveret")
    if not measured:
        return ""
    alone = measured["alone"]
    lines = [["nobody connected", f"{alone['wakeups_per_s']} wake-ups/s", f"RSS {alone['rss_mb']} MB"]]
    for each in measured["connections"]:
        beat = f"heartbeat {each['heartbeat_s']} s" if each["heartbeat_s"] else "no heartbeat"
        if "failed" not in each:
            lines.append([f"{each['connections']:,} connections, {beat}", f"{each['wakeups_per_s']} wake-ups/s",
                          f"{each['idle_cpu'] * 100:.2g} % of a core"])
    for each in measured["bursts"]:
        if "failed" not in each:
            lines.append([f"after {each['what']}",
                          f"RSS {each['rss_before_mb']} → {each['rss_peak_mb']} → {each['rss_after_mb']} MB",
                          f"{each['ratio']}x of before; {each.get('wakeups_per_s', '–')} wake-ups/s"])
    return markdown(["state", "", ""], lines)


def locks(found):
    measured = found.get("locks", {}).get("leveret")
    if not measured:
        return ""
    lines = []
    for each in measured.values():
        if "failed" in each:
            continue
        # sled's threads work at checkpoints, and what is called like the program is its first thread.
        groups = [(group, counts) for group, counts in each["groups"].items() if group.startswith("leveret-")]
        cells = [f"{group.removeprefix('leveret-')}: {waits(counts)}" for group, counts in groups if counts["waits"]]
        lines.append([each["what"], shown("published", each["published"]), "; ".join(cells)])
    return markdown(["load", "published/s", "waits for each 1,000 messages"], lines)


def waits(counts):
    futexes = counts.get("futexes")
    return number(counts["waits"]) + (f" ({number(futexes)})" if futexes is not None else "")


def instructions(found):
    counted = found.get("instructions", {}).get("instructions_per_message")
    if not counted:
        return ""
    lines = [[name, number(count)] for name, count in counted.items()]
    return markdown(["from the publisher's bytes to the consumer's bytes", "instructions a message"], lines)


def beside(found):
    """The same load on several brokers in one run."""
    names = [name for name in others(found)]
    if not names:
        return ""
    lines = []
    for row in ROWS:
        middle = middles(found, row)
        if "leveret" not in middle or not any(name in middle for name in names):
            continue
        for figure in (row.rate, "cpu", "latency_p99", "confirm_p99", "rss"):
            own = middle["leveret"].get(figure)
            if own is None:
                continue
            cells = []
            for name in names:
                value = middle.get(name, {}).get(figure)
                cells += [shown(figure, value), ratio(value, own) or "–"]
            lines.append([f"{row.name}: {row.what}", called(figure), shown(figure, own), *cells])
    head = ["row", "figure", "leveret"]
    for name in names:
        head += [name, "to Leveret"]
    return markdown(head, lines)


def others(found):
    names = {name for each in found.get("rows", {}).values() for name, one in each.items() if "median" in one}
    return sorted(names - {"leveret"})


PARTS = {
    "machine": machine,
    "targets": targets,
    "beside": beside,
    "cliffs": cliffs,
    "growth": growth,
    "interference": interference,
    "idle": idle,
    "locks": locks,
    "instructions": instructions,
}
