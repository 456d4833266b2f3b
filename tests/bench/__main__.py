"""The command line of tests/bench.sh."""

import argparse
import os
import sys
import time
from pathlib import Path

import brokers
import growth
import idle
import instructions
import interference
import locks
import plots
import render
import results
import rows
import tables
from load import Load

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("rows", "growth", "interference", "idle", "locks", "instructions")


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench.sh", description="Measures Leveret and other brokers.")
    parser.add_argument("part", nargs="?", default="rows", choices=(*PARTS, "all", "render"))
    parser.add_argument("--rows", help="names, separated by commas; default all")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each row; the median counts")
    parser.add_argument("--time", type=float, default=2.0, help="seconds of each run")
    parser.add_argument("--against", action="append", default=[], metavar="URL", help="a broker that runs already")
    parser.add_argument("--pid", action="append", default=[], type=int, help="its process, in the order of --against")
    parser.add_argument("--name", action="append", default=[], help="what to call it, in the order of --against")
    parser.add_argument("--start", action="append", default=[], metavar="NAME=COMMAND",
                        help="a broker to be started; {port} and {data} are filled in")
    parser.add_argument("--without-leveret", action="store_true", help="measure the others only")
    parser.add_argument("--out", type=Path, default=target() / "bench", help="where results go")
    parser.add_argument("--docs", action="store_true", help="put results and plots into docs/ too")
    parser.add_argument("--list", action="store_true", help="name the rows and stop")
    return parser.parse_args()


def target():
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()


def all_brokers(options):
    """Leveret first: ratios are to it."""
    found = [] if options.without_leveret else [brokers.Leveret(brokers.leveret_binary(ROOT, target()))]
    for index, url in enumerate(options.against):
        pid = options.pid[index] if index < len(options.pid) else None
        name = options.name[index] if index < len(options.name) else f"broker{index + 1}"
        found.append(brokers.Running(name, url, pid))
    for text in options.start:
        name, _, command = text.partition("=")
        found.append(brokers.Started(name, command))
    return found


def chosen_rows(options):
    if options.rows is None:
        return list(rows.ROWS)
    wanted = options.rows.split(",")
    known = {row.name: row for row in rows.ROWS}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        sys.exit(f"tests/bench.sh: no row is called {', '.join(unknown)}; --list names all")
    return [known[name] for name in wanted]


def measure(options, parts):
    load = Load.find(ROOT, target())
    measured = all_brokers(options)
    found = {"machine": results.machine(), "brokers": [broker.name for broker in measured]}
    begun = time.monotonic()
    try:
        if "rows" in parts:
            found["rows"] = rows.measure(load, measured, chosen_rows(options), options.repeat, options.time)
        if "growth" in parts:
            found["growth"] = growth.measure(load, measured, options.time)
        if "interference" in parts:
            found["interference"] = interference.measure(load, measured)
        if "idle" in parts:
            found["idle"] = idle.measure(load, measured)
        if "locks" in parts:
            found["locks"] = locks.measure(load, measured)
    finally:
        for broker in measured:
            broker.stop()
    print(f"\n{time.monotonic() - begun:.0f} s in all")
    return found


def main():
    options = arguments()
    if options.list:
        for row in rows.ROWS:
            print(f"{row.name:16} {row.what}")
        return
    docs = ROOT / "docs"
    if options.part == "render":
        render.into(docs, results.read(docs / "performance" / "results.json"))
        return
    parts = PARTS if options.part == "all" else (options.part,)
    found = {}
    if parts != ("instructions",):
        found = measure(options, parts)
    if "instructions" in parts:
        found["instructions"] = instructions.measure(ROOT)
    tables.show(found)
    plots.write(found, options.out)
    results.write(found, options.out / "results.json")
    print(f"results and plots are in {options.out}")
    if options.docs:
        kept = results.merge(docs / "performance" / "results.json", found)
        render.into(docs, kept)
        print("docs/PERFORMANCE.md is up to date")


if __name__ == "__main__":
    main()
