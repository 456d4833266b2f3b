//! Exchanges and bindings of a virtual host: from an exchange, a routing key and headers to queues.
