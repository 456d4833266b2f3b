"""Puts a record into the producer's outbox, as a hospital's application would."""

import argparse
import json

from outbox import Outbox


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outbox", default="outbox.db", help="SQLite file that producer.py reads")
    parser.add_argument("record", nargs="*", type=json.loads, default=[{"patient": 12345, "heart_rate": 72}],
                        help="JSON, such as the default: {\"patient\": 12345, \"heart_rate\": 72}")
    options = parser.parse_args()
    Outbox(options.outbox).add(options.record)
    print(f"{len(options.record)} records put into {options.outbox}")


if __name__ == "__main__":
    main()
