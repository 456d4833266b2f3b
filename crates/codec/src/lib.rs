//! AMQP 0-9-1 on the wire: frames, methods, content headers and field tables.
//!
//! This crate turns bytes into values and values into bytes; it keeps no state, does no input or
//! output, and knows nothing of queues, sessions or policy. Every byte it reads may come from a
//! hostile peer: whatever the input, functions answer with a value or an error and never panic.
//!
//! The methods of the data path (publish, ack, nack, reject, qos in; deliver, get-ok, return, ack,
//! nack, content header and body out) are decoded and encoded by hand, borrowed and without
//! allocation. All others go through `amq-protocol`'s generated classes, re-exported as
//! [`protocol`], after their arguments were checked here (lengths, UTF-8, depth of field tables).

mod channel_number;
mod erlang;
mod field_table;
mod field_value;
mod frame;
mod header;
mod header_error;
mod input;
mod method;
mod names;
mod owned_table;
mod pattern;
mod properties;
mod raw_table;
mod reader;
mod reply_code;
mod signature;
mod tags;
mod writer;

pub use amq_protocol::protocol;
pub use amq_protocol::protocol::{AMQPClass, basic::AMQPProperties};
pub use amq_protocol::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};

pub use channel_number::ChannelNumber;
pub use erlang::show_value;
pub use field_table::{RawArrayIter, RawTableIter};
pub use field_value::{RawValue, value_as_integer, value_type_name};
pub use frame::{
    FRAME_END, FRAME_MIN_SIZE, FRAME_OVERHEAD, FRAME_SIZE_BEFORE_TUNING, Frame, FrameKind,
    PROTOCOL_HEADER, ProtocolHeader, protocol_header,
};
pub use header::{ContentHeader, decode_header, decode_properties, encode_header};
pub use header_error::HeaderError;
pub use method::{Method, MethodError, Publish, decode_method, method_ids};
pub use names::{split_names, upcoming_names, write_names};
pub use owned_table::{decode_table, encode_table, write_field, write_table_field};
pub use pattern::{DeliveryPattern, PublishPattern};
pub use properties::Properties;
pub use raw_table::{RawArray, RawTable, TABLE_DEPTH_MAX, TableError};
pub use reader::{FrameError, describe_frame, read_frame};
pub use reply_code::{ReplyCode, shorten};
pub use tags::{ConsumerTag, DeliveryTag};
pub use writer::{
    body_frame_header, write_ack, write_body, write_deliver, write_get_ok, write_header,
    write_heartbeat, write_method, write_nack, write_return,
};
