"""What the tests stand on: the broker as a process, waiting, and a client that speaks single frames."""
