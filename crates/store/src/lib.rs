//! Durable facts: a journal of messages and an index and definitions on sled.
