//! The broker without its sockets: sessions, virtual hosts and queues.
