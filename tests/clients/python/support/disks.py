"""Small disks in memory, in mount namespaces of their own: nothing of them is seen, or left, outside."""

import os
import subprocess

import pytest

UNSHARE = ["unshare", "--map-root-user", "--mount"]


class SmallDisk:
    """A tmpfs at a path, as long as a process holds its namespace."""

    def __init__(self, path, size):
        self.path = path
        path.mkdir()
        script = 'mount -t tmpfs -o "size=$1" tmpfs "$2" && echo mounted && exec cat'
        self.holder = subprocess.Popen([*UNSHARE, "sh", "-c", script, "sh", size, str(path)], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if self.holder.stdout.readline() != b"mounted\n":
            self.close()
            pytest.skip("no namespace to mount a disk in")

    def program(self, wrapper, binary):
        """Writes a program that runs the binary where the disk is."""
        enter = f"nsenter --target {self.holder.pid} --user --mount --preserve-credentials"
        wrapper.write_text(f'#!/bin/sh\nexec {enter} "{binary}" "$@"\n')
        wrapper.chmod(0o755)
        return str(wrapper)

    def inside(self, *parts):
        """A path on the disk as it is seen from outside."""
        return os.path.join(f"/proc/{self.holder.pid}/root{self.path}", *parts)

    def free_bytes(self):
        found = os.statvfs(self.inside())
        return found.f_bavail * found.f_frsize

    def fill(self):
        """Takes all that is left of it; `make_room` gives that back."""
        with open(self.inside("filler"), "wb") as file:
            left = self.free_bytes()
            while left:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, left)
                left = self.free_bytes()

    def make_room(self):
        os.unlink(self.inside("filler"))

    def close(self):
        self.holder.stdin.close()
        self.holder.wait(10)
        self.holder.stdout.close()
