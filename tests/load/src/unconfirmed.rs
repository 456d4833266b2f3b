//! Which publishes the broker has not confirmed yet, and when they were sent.

use std::collections::VecDeque;

/// Publishes without a confirm, by delivery tag.
#[derive(Debug)]
pub(crate) struct Unconfirmed {
    /// The tag of the first one in `sent`.
    first_tag: u64,
    /// When each was sent; None once it is confirmed, out of turn.
    sent: VecDeque<Option<u64>>,
    outstanding: usize,
}

/// A confirm of something that was not waiting for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownTag;

impl Default for Unconfirmed {
    fn default() -> Self {
        Self {
            first_tag: 1,
            sent: VecDeque::new(),
            outstanding: 0,
        }
    }
}

impl Unconfirmed {
    /// How many there are.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// One more was sent.
    pub(crate) fn push(&mut self, sent: u64) {
        self.sent.push_back(Some(sent));
        self.outstanding += 1;
    }

    /// The broker confirmed one, or all up to it; `each` is told when each of those was sent.
    pub(crate) fn confirm(
        &mut self,
        tag: u64,
        multiple: bool,
        mut each: impl FnMut(u64),
    ) -> Result<(), UnknownTag> {
        let Some(index) = tag.checked_sub(self.first_tag) else {
            // Only "all up to" may name what is confirmed already.
            return if multiple { Ok(()) } else { Err(UnknownTag) };
        };
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if index >= self.sent.len() {
            return Err(UnknownTag);
        }
        if multiple {
            for sent in self.sent.drain(..=index).flatten() {
                self.outstanding -= 1;
                each(sent);
            }
            self.first_tag = tag + 1;
        } else {
            let sent = self.sent.get_mut(index).and_then(Option::take);
            self.outstanding -= usize::from(sent.is_some());
            each(sent.ok_or(UnknownTag)?);
        }
        while self.sent.front() == Some(&None) {
            self.sent.pop_front();
            self.first_tag += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: u64) -> Unconfirmed {
        let mut unconfirmed = Unconfirmed::default();
        (1..=count).for_each(|sent| unconfirmed.push(sent));
        unconfirmed
    }

    #[test]
    fn each_counts_once_in_any_order() {
        let mut unconfirmed = of(5);
        let mut confirmed = Vec::new();
        for (tag, multiple) in [(3, false), (4, true), (5, false)] {
            assert_eq!(
                unconfirmed.confirm(tag, multiple, |sent| confirmed.push(sent)),
                Ok(())
            );
        }
        assert_eq!(confirmed, [3, 1, 2, 4, 5]);
        assert_eq!(unconfirmed.outstanding(), 0);
    }

    #[test]
    fn what_waits_for_no_confirm_is_noticed() {
        let mut unconfirmed = of(3);
        assert_eq!(unconfirmed.confirm(2, false, drop), Ok(()));
        assert_eq!(unconfirmed.confirm(2, false, drop), Err(UnknownTag));
        assert_eq!(unconfirmed.confirm(9, true, drop), Err(UnknownTag));
        assert_eq!(unconfirmed.confirm(1, false, drop), Ok(()));
        assert_eq!(unconfirmed.confirm(1, false, drop), Err(UnknownTag));
        assert_eq!(unconfirmed.confirm(1, true, drop), Ok(()));
        assert_eq!(unconfirmed.outstanding(), 1);
    }
}
