//! Who publishes, and what only the sender's connection can tell of a publish.

use leveret_access::grant::Grant;
use leveret_access::users::Users;
use leveret_broker::exchange::{blind_keys, copy_without_blind};
use leveret_codec::{ChannelNumber, ContentHeader, RawTable};
use leveret_message::error::{ChannelError, Failure};
use leveret_message::parse_expiration;

use crate::delivering::Delivering;

/// The pseudo-queue of direct reply-to.
pub(crate) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Who publishes.
pub(crate) struct Sender<'a> {
    pub(crate) user: &'a str,
    pub(crate) users: &'a Users,
    pub(crate) grant: &'a Grant,
    pub(crate) delivering: &'a Delivering,
    pub(crate) channel: ChannelNumber,
}

/// A content header that the broker changed.
pub(super) struct Rewritten {
    pub(super) payload: Vec<u8>,
    /// The keys of the BCC header it had.
    pub(super) blind: Vec<u8>,
}

impl Sender<'_> {
    /// Where replies to this sender go.
    fn reply_address(&self) -> Result<&str, ChannelError> {
        let address = self.delivering.reply_address(self.channel);
        address.ok_or_else(|| ChannelError::precondition("fast reply consumer does not exist"))
    }

    /// rabbitmq: what is wrong here is told in this order
    #[inline]
    pub(super) fn check_properties(&self, header: &ContentHeader<'_>) -> Result<(), Failure> {
        let properties = &header.properties;
        let named = [
            properties.reply_to,
            properties.user_id,
            properties.expiration,
        ];
        if named.iter().all(Option::is_none) {
            return Ok(());
        }
        self.check_named(header)
    }

    fn check_named(&self, header: &ContentHeader<'_>) -> Result<(), Failure> {
        let properties = &header.properties;
        if properties.reply_to == Some(REPLY_TO.as_bytes()) {
            self.reply_address()?;
        }
        if let Some(user) = properties.user_id
            && user != self.user.as_bytes()
            && !self.may_impersonate()
        {
            return Err(ChannelError::precondition(format_args!(
                "user_id property set to '{}' but authenticated user was '{}'",
                String::from_utf8_lossy(user),
                self.user
            ))
            .into());
        }
        if let Some(expiration) = properties.expiration
            && parse_expiration(expiration).is_none()
        {
            return Err(bad_expiration(expiration).into());
        }
        Ok(())
    }

    fn may_impersonate(&self) -> bool {
        let user = self.users.get(self.user);
        user.is_some_and(|user| user.is_impersonator())
    }

    /// Whether a header cannot be stored as it came.
    #[inline]
    pub(super) fn must_rewrite(header: &ContentHeader<'_>, keep_blind: bool) -> bool {
        let properties = &header.properties;
        let headers = properties.headers.filter(|_| !keep_blind);
        properties.reply_to == Some(REPLY_TO.as_bytes()) || headers.and_then(blind_keys).is_some()
    }

    /// The header to store where it cannot stay as it came: BCC is taken out, and the pseudo-queue in
    /// reply-to becomes the address of this channel's reply consumer. With it the keys in BCC.
    pub(super) fn rewritten_header(
        &self,
        header: &ContentHeader<'_>,
        keep_blind: bool,
    ) -> Result<Rewritten, Failure> {
        let replies = header.properties.reply_to == Some(REPLY_TO.as_bytes());
        let headers = header.properties.headers.filter(|_| !keep_blind);
        let blind = headers.and_then(blind_keys);
        let mut properties = header.properties;
        let mut fields = Vec::new();
        if blind.is_some()
            && let Some(headers) = headers
        {
            copy_without_blind(headers, &mut fields);
            properties.headers = Some(RawTable::from_encoded(&fields));
        }
        if replies {
            properties.reply_to = Some(self.reply_address()?.as_bytes());
        }
        let payload = properties.encode_header(header.body_size);
        Ok(Rewritten {
            payload,
            blind: blind.unwrap_or_default(),
        })
    }
}

/// RabbitMQ's complaint about an `expiration` that is no time.
fn bad_expiration(text: &[u8]) -> ChannelError {
    let text = String::from_utf8_lossy(text);
    let (sign, unsigned) = text.split_at(usize::from(text.starts_with(['+', '-'])));
    let is_digit = |c: char| c.is_ascii_digit();
    let end = unsigned.find(|c| !is_digit(c)).unwrap_or(unsigned.len());
    let (digits, leftover) = unsigned.split_at(end);
    let number = digits.trim_start_matches('0');
    let why = match (digits, leftover, sign) {
        ("", ..) => "no_integer".to_owned(),
        (_, "", "-") => format!("{{value_negative,-{number}}}"),
        (_, "", _) => format!("{{value_too_large,{number}}}"),
        _ => format!("{{leftover_string,<<\"{leftover}\">>}}"),
    };
    ChannelError::precondition(format_args!("invalid expiration '{text}': {why}"))
}
