//! The arguments of every control method, as types in their order, and a walk that checks them.
//!
//! `amq-protocol`'s parsers recurse into field tables without a limit and report all that is wrong
//! alike; what this walk lets through they parse, and cannot be made to overflow the stack by.

use crate::input::Input;
use crate::raw_table::RawTable;

/// The type of one argument on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Argument {
    /// An octet, or up to eight booleans packed into one.
    Octet,
    Short,
    Long,
    LongLong,
    ShortString,
    LongString,
    Table,
}

/// Whether a class and a method of it are known, and what the method's arguments are.
pub(crate) enum Signature {
    UnknownClass,
    UnknownMethod,
    Known(&'static [Argument]),
}

/// How a method's arguments do not fit its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// Too few or too many bytes, or a malformed table.
    Malformed,
    /// A short string is not UTF-8. (Names of fields are left to the parser.)
    NotUtf8,
    /// A number in a table is NaN or infinite.
    NotFinite,
}

/// The signature of a method. spec: all classes and methods, with RabbitMQ's extensions.
pub(crate) fn signature(class: u16, method: u16) -> Signature {
    use Argument::{
        Long as L, LongLong as LL, LongString as Text, Octet as O, Short as S, ShortString as Name,
        Table as T,
    };
    let arguments: &'static [Argument] = match (class, method) {
        // connection: start, start-ok, secure, secure-ok, tune, tune-ok, open, open-ok, close,
        // close-ok, blocked, unblocked, update-secret, update-secret-ok
        (10, 10) => &[O, O, T, Text, Text],
        (10, 11) => &[T, Name, Text, Name],
        (10, 20 | 21) => &[Text],
        (10, 30 | 31) => &[S, L, S],
        (10, 40) => &[Name, Name, O],
        (10, 41 | 60) => &[Name],
        (10, 50) => &[S, Name, S, S],
        (10, 51 | 61 | 71) => &[],
        (10, 70) => &[Text, Name],
        // channel: open, open-ok, flow, flow-ok, close, close-ok
        (20, 10) => &[Name],
        (20, 11) => &[Text],
        (20, 20 | 21) => &[O],
        (20, 40) => &[S, Name, S, S],
        (20, 41) => &[],
        // access: request, request-ok (of AMQP 0-8)
        (30, 10) => &[Name, O],
        (30, 11) => &[S],
        // exchange: declare, declare-ok, delete, delete-ok, bind, bind-ok, unbind, unbind-ok
        (40, 10) => &[S, Name, Name, O, T],
        (40, 20) => &[S, Name, O],
        (40, 30 | 40) => &[S, Name, Name, Name, O, T],
        (40, 11 | 21 | 31 | 51) => &[],
        // queue: declare, declare-ok, bind, bind-ok, purge, purge-ok, delete, delete-ok, unbind,
        // unbind-ok
        (50, 10) => &[S, Name, O, T],
        (50, 11) => &[Name, L, L],
        (50, 20) => &[S, Name, Name, Name, O, T],
        (50, 21 | 51) => &[],
        (50, 30 | 40) => &[S, Name, O],
        (50, 31 | 41) => &[L],
        (50, 50) => &[S, Name, Name, Name, T],
        // basic: qos-ok, consume, consume-ok, cancel, cancel-ok, return, deliver, get, get-ok,
        // get-empty, recover-async, recover, recover-ok
        (60, 11) => &[],
        (60, 20) => &[S, Name, Name, O, T],
        (60, 21 | 31 | 72) => &[Name],
        (60, 30) => &[Name, O],
        (60, 50) => &[S, Name, Name, Name],
        (60, 60) => &[Name, LL, O, Name, Name],
        (60, 70) => &[S, Name, O],
        (60, 71) => &[LL, O, Name, Name, L],
        (60, 100 | 110) => &[O],
        (60, 111) => &[],
        // confirm: select, select-ok
        (85, 10) => &[O],
        (85, 11) => &[],
        // tx: select, select-ok, commit, commit-ok, rollback, rollback-ok
        (90, 10 | 11 | 20 | 21 | 30 | 31) => &[],
        (10 | 20 | 30 | 40 | 50 | 60 | 85 | 90, _) => return Signature::UnknownMethod,
        _ => return Signature::UnknownClass,
    };
    Signature::Known(arguments)
}

/// Checks that `bytes` are exactly these arguments, whatever their values.
pub(crate) fn check(arguments: &[Argument], bytes: &[u8]) -> Result<(), Mismatch> {
    let mut input = Input(bytes);
    for &argument in arguments {
        check_one(argument, &mut input)?;
    }
    if input.is_empty() {
        Ok(())
    } else {
        Err(Mismatch::Malformed)
    }
}

fn check_one(argument: Argument, input: &mut Input<'_>) -> Result<(), Mismatch> {
    let bytes = match argument {
        Argument::Octet => input.take(1),
        Argument::Short => input.take(2),
        Argument::Long => input.take(4),
        Argument::LongLong => input.take(8),
        Argument::ShortString => input.short(),
        Argument::LongString | Argument::Table => input.long(),
    };
    let bytes = bytes.ok_or(Mismatch::Malformed)?;
    match argument {
        Argument::ShortString if str::from_utf8(bytes).is_err() => Err(Mismatch::NotUtf8),
        Argument::Table => check_table(RawTable::from_encoded(bytes)),
        _ => Ok(()),
    }
}

/// rabbitmq: cannot decode arguments with a number that is NaN or infinite
fn check_table(table: RawTable<'_>) -> Result<(), Mismatch> {
    table.check_to_own().map_err(|_| Mismatch::Malformed)?;
    if table.is_finite() {
        Ok(())
    } else {
        Err(Mismatch::NotFinite)
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::protocol::parse_class;

    use super::*;

    /// Arguments of zeros only: every string and table is empty, so that each type has one length.
    fn zeros(class: u16, method: u16) -> Vec<u8> {
        let mut payload = vec![0; 64];
        payload[..2].copy_from_slice(&class.to_be_bytes());
        payload[2..4].copy_from_slice(&method.to_be_bytes());
        payload
    }

    #[test]
    fn signatures_agree_with_amq_protocol() {
        const BY_HAND: [u16; 5] = [10, 40, 80, 90, 120];
        for class in 0..=100 {
            for method in (0..=130).filter(|method| class != 60 || !BY_HAND.contains(method)) {
                let payload = zeros(class, method);
                let parsed = parse_class(&payload[..]);
                match signature(class, method) {
                    Signature::Known(arguments) => {
                        let (rest, _) = parsed.unwrap();
                        let length = payload.len() - rest.len() - 4;
                        assert_eq!(check(arguments, &payload[4..4 + length]), Ok(()));
                        let longer = check(arguments, &payload[4..5 + length]);
                        assert_eq!(longer, Err(Mismatch::Malformed), "{class}.{method}");
                    }
                    _ => assert!(parsed.is_err(), "{class}.{method}"),
                }
            }
        }
    }
}
