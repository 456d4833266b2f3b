//! The reply codes of AMQP 0-9-1 and the shape of reply texts.
//!
//! Which situation gives which code is not decided here.

use std::fmt;

use amq_protocol::types::ShortString;

macro_rules! reply_codes {
    ($($(#[$doc:meta])* $variant:ident = $number:literal $name:literal;)*) => {
        /// A reply code of AMQP 0-9-1 (spec: domain reply-code).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ReplyCode {
            $($(#[$doc])* $variant,)*
        }

        impl ReplyCode {
            /// All codes, in the order of their numbers.
            pub const ALL: &'static [ReplyCode] = &[$(ReplyCode::$variant),*];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(ReplyCode::$variant => $number,)* }
            }

            /// The name that opens a reply text, such as `NOT_FOUND`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(ReplyCode::$variant => $name,)* }
            }

            /// The code with this number.
            #[must_use]
            pub const fn from_number(number: u16) -> Option<ReplyCode> {
                match number { $($number => Some(ReplyCode::$variant),)* _ => None }
            }
        }
    };
}

reply_codes! {
    /// 200: an orderly end.
    Success = 200 "REPLY_SUCCESS";
    /// 311: the message is larger than the server takes.
    ContentTooLarge = 311 "CONTENT_TOO_LARGE";
    /// 312: a mandatory message reached no queue.
    NoRoute = 312 "NO_ROUTE";
    /// 313: an immediate message had no consumer.
    NoConsumers = 313 "NO_CONSUMERS";
    /// 320: an operator closed the connection.
    ConnectionForced = 320 "CONNECTION_FORCED";
    /// 402: an unknown virtual host path.
    InvalidPath = 402 "INVALID_PATH";
    /// 403: no permission.
    AccessRefused = 403 "ACCESS_REFUSED";
    /// 404: no such queue, exchange or other entity.
    NotFound = 404 "NOT_FOUND";
    /// 405: an entity belongs to another connection.
    ResourceLocked = 405 "RESOURCE_LOCKED";
    /// 406: a condition of the method does not hold.
    PreconditionFailed = 406 "PRECONDITION_FAILED";
    /// 501: bytes that cannot be decoded.
    FrameError = 501 "FRAME_ERROR";
    /// 502: illegal values in a frame.
    SyntaxError = 502 "SYNTAX_ERROR";
    /// 503: a method that is invalid here.
    CommandInvalid = 503 "COMMAND_INVALID";
    /// 504: a channel that is not open, or is open already.
    ChannelError = 504 "CHANNEL_ERROR";
    /// 505: a frame out of its order.
    UnexpectedFrame = 505 "UNEXPECTED_FRAME";
    /// 506: the server has not enough of something.
    ResourceError = 506 "RESOURCE_ERROR";
    /// 530: something that is forbidden to this client.
    NotAllowed = 530 "NOT_ALLOWED";
    /// 540: the server does not implement this.
    NotImplemented = 540 "NOT_IMPLEMENTED";
    /// 541: the server failed.
    InternalError = 541 "INTERNAL_ERROR";
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `text` as a short string: cut after 252 bytes at most, with `...` at the end, where it is longer
/// than 255. rabbitmq: `amqp_exception_explanation` cuts reply texts so.
#[must_use]
pub fn shorten(text: &str) -> ShortString {
    const CUT: usize = 252;
    ShortString::try_new(text).unwrap_or_else(|_| {
        let (kept, _) = text
            .split_at_checked(text.floor_char_boundary(CUT))
            .unwrap_or_default();
        ShortString::try_new(format!("{kept}...")).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_their_codes() {
        for &code in ReplyCode::ALL {
            assert_eq!(ReplyCode::from_number(code.number()), Some(code));
        }
        assert_eq!(ReplyCode::from_number(0), None);
        assert_eq!(ReplyCode::NotFound.to_string(), "NOT_FOUND");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(shorten("short").as_str(), "short");
        assert_eq!(shorten(&"x".repeat(255)).as_str().len(), 255);
        assert_eq!(
            shorten(&"x".repeat(256)).as_str(),
            format!("{}...", "x".repeat(252))
        );
        let cut = shorten(&"ä€".repeat(100));
        assert!(cut.as_str().len() <= 255 && cut.as_str().ends_with("..."));
    }
}
