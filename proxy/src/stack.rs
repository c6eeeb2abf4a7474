//! What a login leaves on the stack: hashes work on copies of a password there, which no allocator wipes.

use std::hint::black_box;

/// The part that one call overwrites.
const PART: usize = 8 << 10;

/// The parts that are overwritten: more than a login's deepest call has used.
const PARTS: u32 = 12;

/// Overwrites what calls that have returned left behind on this thread.
pub(crate) fn wipe() {
    overwrite(PARTS);
}

#[inline(never)]
fn overwrite(parts: u32) {
    let mut part = [0_u8; PART];
    black_box(&mut part);
    if parts > 1 {
        overwrite(parts - 1);
    }
    // The part is needed until here, or the next call might take its place.
    black_box(&mut part);
}
