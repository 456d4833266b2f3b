//! How fast the checkpoint thread goes: with pauses while there is room, without where that is short.

use std::time::Duration;

use leveret_store_api::Payload;
use parking_lot::MutexGuard;

use super::shared::Shared;
use crate::clock;

/// Room is short where there is less than so many times what is to stay free.
const SHORT_OF_ROOM: u64 = 4;

/// Little is left on the disk: of all, or of what is not about to be given back.
pub(super) fn is_short_of_room<P: Payload>(shared: &Shared<P>) -> bool {
    let least = shared.options.disk_free_bytes_min;
    let enough = least.saturating_mul(SHORT_OF_ROOM);
    let free_bytes = shared.segments.free_bytes().unwrap_or(0);
    free_bytes < enough.max(shared.segments.spent.leaving().bytes)
}

/// Lets others have the journal for a while, unless room is needed; what cannot wait is done.
pub(super) fn pause<P: Payload>(shared: &Shared<P>, pause: Duration) {
    if is_short_of_room(shared) {
        return;
    }
    let until = clock::now() + pause;
    let mut duties = shared.duties.lock();
    while !duties.closing && !duties.stopped && clock::now() < until {
        if std::mem::take(&mut duties.prepare) {
            MutexGuard::unlocked(&mut duties, || prepare(shared));
            continue;
        }
        shared.duties_changed.wait_until(&mut duties, until);
    }
}

/// Makes the next segment ahead of its use. If that fails, the commit thread makes it itself, and
/// reports what is wrong.
pub(super) fn prepare<P: Payload>(shared: &Shared<P>) {
    let _ = shared.segments.prepare();
}
