//! AMQP 0-9-1 on the wire: frames, methods, content headers and field tables.
