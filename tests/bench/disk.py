"""What the disk takes, for comparison."""

import os
import time


def write_and_sync(directory, size, count):
    """Millions of bytes a second, when `count` pieces of `size` bytes are each written and synced, one after the
    other."""
    path = directory / "disk-limit"
    piece = os.urandom(size)
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        begun = time.monotonic()
        for _ in range(count):
            os.write(file, piece)
            os.fdatasync(file)
        return size * count / 1e6 / (time.monotonic() - begun)
    finally:
        os.close(file)
        path.unlink()
