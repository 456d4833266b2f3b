//! What must never be, and is: a mistake in the program, not a client's or a disk's.
//!
//! Where the program can go on with less than it should have, it does, and says so: a debug build stops there.

use std::fmt::Display;
use std::ops::Sub;
use std::panic::Location;

use parking_lot::Mutex;

/// Places that have said so.
static TOLD: Mutex<Vec<&'static Location<'static>>> = Mutex::new(Vec::new());

/// An invariant does not hold. Each place in the program says so once, as an error.
#[cold]
#[inline(never)]
#[track_caller]
pub fn broken(what: &dyn Display) {
    debug_assert!(false, "broken invariant: {what}");
    let place = Location::caller();
    if is_first(place, &TOLD) {
        tracing::error!(%place, "this must not be, please report it: {what}");
    }
}

fn is_first(
    place: &'static Location<'static>,
    told: &Mutex<Vec<&'static Location<'static>>>,
) -> bool {
    let mut told = told.lock();
    let is_first = !told.contains(&place);
    if is_first {
        told.push(place);
    }
    is_first
}

/// `counted` without `gone`, which is a part of it.
#[inline(always)]
#[track_caller]
#[must_use]
pub fn without<T>(counted: T, gone: T, what: &'static str) -> T
where
    T: Copy + Default + PartialOrd + Display + Sub<Output = T>,
{
    if counted < gone {
        return too_little(&counted, &gone, what);
    }
    counted - gone
}

#[cold]
#[inline(never)]
#[track_caller]
fn too_little<T: Default + Display>(counted: &T, gone: &T, what: &'static str) -> T {
    broken(&format_args!("{what}: {gone} of {counted} have gone"));
    T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_says_so_once() {
        let told = Mutex::default();
        let [one, other] = [Location::caller(), Location::caller()];
        let said = [one, other, one, other].map(|place| is_first(place, &told));
        assert_eq!(said, [true, true, false, false]);
    }

    #[test]
    fn a_part_is_taken_off() {
        assert_eq!((without(7, 7, "some"), without(7, 2, "some")), (0, 5));
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "some: 8 of 7 have gone"))]
    fn more_than_there_is_stops_a_debug_build_and_counts_as_all() {
        assert_eq!(without(7, 8, "some"), 0);
    }
}
