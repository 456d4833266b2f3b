//! A set of small numbers that is emptied in the time it took to fill it and keeps its memory.

/// Numbers that were marked since the last `clear`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    words: Vec<u64>,
    touched: Vec<usize>,
}

impl Marks {
    /// Marks `number`; false when it was marked already.
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
    use super::Marks;

    #[test]
    fn marks_once_until_cleared() {
        let mut marks = Marks::default();
        assert!(marks.insert(3) && marks.insert(1000) && !marks.insert(3));
        marks.clear();
        assert!(marks.insert(3));
    }
}
