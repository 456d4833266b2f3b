"""What was done for each trip. It stands for the databases of the hotel, the bank and the mail server."""

import sqlite3


class Ledger:
    def __init__(self, path: str):
        self.database = sqlite3.connect(path, timeout=30)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("""CREATE TABLE IF NOT EXISTS ledger (
            number INTEGER PRIMARY KEY, trip TEXT NOT NULL, action TEXT NOT NULL, UNIQUE (trip, action))""")

    def enter(self, trip: str, action: str) -> None:
        """Does an action for a trip; does nothing if it was done already, for a message may come twice."""
        with self.database:
            self.database.execute("INSERT OR IGNORE INTO ledger (trip, action) VALUES (?, ?)", (trip, action))

    def actions(self, trip: str) -> list[str]:
        return [action for action, in self.database.execute(
            "SELECT action FROM ledger WHERE trip = ? ORDER BY number", (trip,))]
