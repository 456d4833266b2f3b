"""Instructions that a message takes inside the broker: counted, so that the same code gives the same figure however
busy the machine is."""

import re
import shutil
import subprocess
import sys

CASES = ("no ack, 16 B", "no ack, 1024 B", "ack, 16 B", "ack, 1024 B", "confirm and ack, 16 B", "topic of 1000, 16 B",
         "global prefetch, 16 B")


def measure(root):
    if shutil.which("valgrind") is None:
        sys.exit("tests/bench.sh instructions needs valgrind (Debian's package has this name)")
    build = ["cargo", "bench", "--locked", "--package", "leveret-session", "--bench", "instructions", "--no-run"]
    said = subprocess.run(build, cwd=root, check=True, capture_output=True, text=True).stderr
    binary = re.search(r"\(([^()]*instructions-[0-9a-f]+)\)", said)
    assert binary, said
    binary = binary[1]
    counted = {}
    for case in CASES:
        counted[case] = per_message(root, binary, case)
        print(f"{case:24} {counted[case]:>8.0f} instructions a message", flush=True)
    return {"instructions_per_message": counted}


def per_message(root, binary, case):
    """What is counted between two calls of a function that marks the measured part."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*measured*",
               binary, case]
    said = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    collected = re.search(r"Collected : (\d+)", said.stderr)
    messages = re.search(r"messages: (\d+)", said.stdout)
    assert collected and messages, said.stderr
    return round(int(collected[1]) / int(messages[1]), 1)
