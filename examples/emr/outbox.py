"""The producer's memory: records that are to be sent, in a SQLite file.

A hospital's application writes a record here in the same transaction as its own data. The row is marked as sent when
the broker has confirmed it, so a producer that dies sends again what may not have arrived, under the same id."""

import json
import sqlite3
import uuid
from typing import NamedTuple


class Row(NamedTuple):
    number: int
    id: str
    body: str


class Outbox:
    def __init__(self, path: str):
        self.database = sqlite3.connect(path, timeout=30)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("""CREATE TABLE IF NOT EXISTS outbox (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL, sent INTEGER NOT NULL DEFAULT 0)""")

    def add(self, records: list[dict]) -> None:
        rows = [(str(uuid.uuid4()), json.dumps(record)) for record in records]
        with self.database:
            self.database.executemany("INSERT INTO outbox (id, body) VALUES (?, ?)", rows)

    def unsent(self, after: int, limit: int) -> list[Row]:
        """The oldest rows beyond number `after` that no confirm has come for."""
        return [Row(*row) for row in self.database.execute(
            "SELECT number, id, body FROM outbox WHERE NOT sent AND number > ? ORDER BY number LIMIT ?",
            (after, limit))]

    def mark_sent(self, rows: list[Row]) -> None:
        with self.database:
            self.database.executemany("UPDATE outbox SET sent = 1 WHERE number = ?", [(row.number,) for row in rows])

    def unsent_count(self) -> int:
        return self.database.execute("SELECT count(*) FROM outbox WHERE NOT sent").fetchone()[0]

    def records(self) -> list[tuple[str, dict]]:
        """Everything ever added: id and record."""
        return [(id, json.loads(body)) for id, body in self.database.execute("SELECT id, body FROM outbox")]
