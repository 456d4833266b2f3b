//! The leveret binary: sockets, signals, configuration and the clock.
