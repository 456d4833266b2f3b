//! A set of small numbers that is emptied in the time it took to fill it and keeps its memory.

/// Numbers that were added since the last `clear`.
#[derive(Clone, Debug, Default)]
pub(crate) struct NumberSet {
    words: Vec<u64>,
    touched: Vec<usize>,
}

impl NumberSet {
    /// Adds `number`; false when it is there already.
    pub(crate) fn insert(&mut self, number: u32) -> bool {
        let (position, bit) = (number as usize / 64, 1_u64 << (number % 64));
        if position >= self.words.len() {
            self.words.resize(position + 1, 0);
        }
        let Some(word) = self.words.get_mut(position) else {
            return false;
        };
        let is_new = *word & bit == 0;
        if *word == 0 {
            self.touched.push(position);
        }
        *word |= bit;
        is_new
    }

    pub(crate) fn clear(&mut self) {
        for position in self.touched.drain(..) {
            if let Some(word) = self.words.get_mut(position) {
                *word = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NumberSet;

    #[test]
    fn a_number_is_new_once_until_cleared() {
        let mut set = NumberSet::default();
        assert!(set.insert(3) && set.insert(1000) && !set.insert(3));
        set.clear();
        assert!(set.insert(3));
    }
}
