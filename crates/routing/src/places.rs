//! Things that keep their places for as long as they are there, however many there are: more of them take more memory,
//! but none is moved for it.

/// So many things lie together.
const BLOCK: usize = 1024;
/// No place.
const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub(crate) struct Places<T> {
    /// All but the last are full.
    blocks: Vec<Vec<Place<T>>>,
    /// The vacant place that is taken next.
    vacant: u32,
    taken: usize,
}

#[derive(Clone, Debug)]
enum Place<T> {
    Taken(T),
    /// With the vacant place that is taken after it.
    Vacant(u32),
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self {
            blocks: Vec::new(),
            vacant: NONE,
            taken: 0,
        }
    }
}

impl<T> Places<T> {
    /// Gives a thing a place. A place that was left is taken again.
    pub(crate) fn insert(&mut self, thing: T) -> u32 {
        self.taken += 1;
        let at = self.vacant;
        if let Some(place) = self.place_mut(at)
            && let Place::Vacant(next) = *place
        {
            *place = Place::Taken(thing);
            self.vacant = next;
            return at;
        }
        let at = u32::try_from(self.end()).unwrap_or(NONE);
        let is_full = |block: &Vec<Place<T>>| block.len() == BLOCK;
        if self.blocks.last().is_none_or(is_full) {
            // The first may stay small.
            let size = if self.blocks.is_empty() { 0 } else { BLOCK };
            self.blocks.push(Vec::with_capacity(size));
        }
        if let Some(block) = self.blocks.last_mut() {
            block.push(Place::Taken(thing));
        }
        at
    }

    #[inline]
    pub(crate) fn get(&self, at: u32) -> Option<&T> {
        match self
            .blocks
            .get(at as usize / BLOCK)?
            .get(at as usize % BLOCK)?
        {
            Place::Taken(thing) => Some(thing),
            Place::Vacant(_) => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        match self.place_mut(at)? {
            Place::Taken(thing) => Some(thing),
            Place::Vacant(_) => None,
        }
    }

    /// Has a thing leave its place.
    pub(crate) fn remove(&mut self, at: u32) -> Option<T> {
        let next = self.vacant;
        let place = self.place_mut(at)?;
        if matches!(place, Place::Vacant(_)) {
            return None;
        }
        let place = std::mem::replace(place, Place::Vacant(next));
        self.vacant = at;
        self.taken -= 1;
        if self.taken == 0 {
            *self = Self::default();
        }
        match place {
            Place::Taken(thing) => Some(thing),
            Place::Vacant(_) => None,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten().filter_map(Place::thing)
    }

    /// The things at those places from `start` on that are before `end`.
    pub(crate) fn within(&self, start: usize, end: usize) -> impl Iterator<Item = &T> {
        let places = start..end.min(self.end());
        places.filter_map(|at| self.get(u32::try_from(at).ok()?))
    }

    /// Where the last place ends: how many there are.
    pub(crate) fn end(&self) -> usize {
        let last = self.blocks.last().map_or(0, Vec::len);
        self.blocks.len().saturating_sub(1) * BLOCK + last
    }

    #[inline]
    fn place_mut(&mut self, at: u32) -> Option<&mut Place<T>> {
        let block = self.blocks.get_mut(at as usize / BLOCK)?;
        block.get_mut(at as usize % BLOCK)
    }
}

impl<T> Place<T> {
    fn thing(&self) -> Option<&T> {
        match self {
            Self::Taken(thing) => Some(thing),
            Self::Vacant(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stay_and_are_taken_again() {
        let many = 3 * BLOCK + 1;
        let mut places = Places::default();
        let taken: Vec<u32> = (0..many).map(|number| places.insert(number)).collect();
        assert_eq!(places.end(), many);
        for (number, at) in taken.iter().enumerate().step_by(2) {
            assert_eq!(places.remove(*at), Some(number));
            assert_eq!(places.remove(*at), None);
            assert!(places.get(*at).is_none() && places.get_mut(*at).is_none());
        }
        assert_eq!(places.iter().count(), many / 2);
        assert_eq!(places.within(1, 4).collect::<Vec<_>>(), [&1, &3]);
        let again: Vec<u32> = (0..=many / 2).map(|_| places.insert(0)).collect();
        assert!(again.iter().all(|at| taken.contains(at)));
        assert_eq!(places.end(), many);
        assert_eq!(places.insert(7) as usize, many);
        for at in 0..=u32::try_from(many).unwrap() {
            assert!(places.remove(at).is_some());
        }
        assert_eq!(places.end(), 0);
    }
}
