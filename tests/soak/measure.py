"""What the broker uses, sampled, and whether it grows."""

import os
import statistics
import time
from pathlib import Path

MIB = 1 << 20

# Of each measure: by how much the samples may seem to grow without growing, and how much more than before the load there
# may be once everything is deleted.
#
# Memory is RssAnon: the allocator keeps pages of past peaks, and queues are longer at one time than at another, which is
# some MiB either way: two short runs were at -1 and +3. 16 bytes for each commit, a leak that once was, are about 7 MiB in
# the 180 s of the short run's samples, and 40 in the night's.
# The disk grows by segments of the journal of 64 MiB, of which one more may be in use, and one is kept to be written
# again. Once nothing lives and nothing is written, 8 MiB of one segment stay; sled's file shrinks, but not to nothing.
# sled has seven threads for as long as the process lives, and more for a while.
TOLERANCE = {
    "memory": (5 * MIB, 12 * MIB),
    "disk": (72 * MIB, 16 * MIB),
    "descriptors": (6, 2),
    "threads": (3, 2),
    "definitions": (12, 0),
}



class Broker:
    """The process under load, measured from outside."""

    def __init__(self, process, management):
        self.process = process
        self.management = management

    def usage(self):
        return {
            "memory": self._memory(),
            "disk": self._disk(),
            "descriptors": len(os.listdir(f"/proc/{self.process.pid}/fd")),
            "threads": len(os.listdir(f"/proc/{self.process.pid}/task")),
            "definitions": self._definitions(),
        }

    def settled(self):
        """What it uses at rest: the least of some seconds."""
        usages = []
        # What serves the API begins with the first request.
        self.usage()
        for _ in range(12):
            usages.append(self.usage())
            time.sleep(0.5)
        return {name: min(usage[name] for usage in usages) for name in usages[0]}

    def _memory(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no RssAnon")

    def _disk(self):
        total = 0
        for directory, _, files in os.walk(self.process.data_dir):
            for file in files:
                try:
                    total += os.stat(os.path.join(directory, file)).st_blocks * 512
                except FileNotFoundError:
                    pass  # it went while we looked
        return total

    def _definitions(self):
        totals = self.management.get("overview")["object_totals"]
        return totals["queues"] + totals["exchanges"] + totals["consumers"]


class Series:
    """Samples over time."""

    def __init__(self):
        self.samples = []

    def __len__(self):
        return len(self.samples)

    def add(self, when, usage):
        self.samples.append((when, usage))

    def _points(self, name, begin):
        return [(when, usage[name]) for when, usage in self.samples if when >= begin]

    def median(self, name, begin):
        points = self._points(name, begin)
        return statistics.median(value for _, value in points) if points else 0

    def course(self, name, parts=12):
        """Its medians in so many parts of the time."""
        each = max(1, len(self.samples) // parts)
        pieces = [self.samples[at:at + each] for at in range(0, len(self.samples), each)]
        return [int(statistics.median(usage[name] for _, usage in piece)) for piece in pieces]

    def growth(self, name, begin):
        """By how much it grew: the median of the slopes between any two samples (Theil-Sen), times the time covered."""
        points = self._points(name, begin)
        # Many million pairs say no more than some ten thousand.
        points = points[::max(1, len(points) // 400)]
        slopes = [(later[1] - earlier[1]) / (later[0] - earlier[0])
                  for at, earlier in enumerate(points) for later in points[at + 1:]]
        return statistics.median(slopes) * (points[-1][0] - points[0][0]) if slopes else 0.0
