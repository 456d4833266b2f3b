"""What was measured, as JSON."""

import json
import os
import platform
import statistics


def machine():
    """The machine, as far as figures depend on it; no names and no paths."""
    model = ""
    with open("/proc/cpuinfo") as cpuinfo:
        for line in cpuinfo:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": os.cpu_count(),
        "processor": model or platform.machine(),
        "memory_gb": round(pages / 1e9),
        "kernel": platform.release().split("-")[0],
    }


def median(values):
    """The median of what is there; None where nothing is."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def write(found, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def read(path):
    return json.loads(path.read_text()) if path.exists() else {}


def merge(path, found):
    """Replaces in the results at `path` what was measured anew: parts as a whole, rows one by one."""
    kept = read(path)
    rows = {**kept.get("rows", {}), **found.get("rows", {})}
    kept.update(found)
    if rows:
        kept["rows"] = rows
    write(kept, path)
    return kept
