//! The hash under [`super::NameId::find`], shared with the build script that searches a seed for it.

/// Bits of the hash that choose a displacement; they are its highest.
pub(super) const BUCKET_BITS: u32 = 8;
/// Bits, below those, that choose a slot.
pub(super) const SLOT_BITS: u32 = 11;

/// Length, first and last eight bytes, one multiplication: enough to tell all names of the catalogue
/// apart, which the build script checks.
pub(super) fn hash(text: &[u8], seed: u64) -> u64 {
    let (head, tail) = match (text.first_chunk(), text.last_chunk()) {
        (Some(head), Some(tail)) => (u64::from_le_bytes(*head), u64::from_le_bytes(*tail)),
        _ => match (text.first_chunk(), text.last_chunk()) {
            (Some(head), Some(tail)) => (
                u32::from_le_bytes(*head).into(),
                u32::from_le_bytes(*tail).into(),
            ),
            _ => (
                text.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)),
                0,
            ),
        },
    };
    (head ^ tail.rotate_left(23) ^ (text.len() as u64) << 56).wrapping_mul(seed)
}

/// Index into the displacements.
pub(super) fn bucket(hash: u64) -> usize {
    (hash >> (64 - BUCKET_BITS)) as usize
}

/// Index into the slots, once the displacement of the bucket is known.
pub(super) fn slot(hash: u64, displacement: u16) -> usize {
    let base = (hash >> (64 - BUCKET_BITS - SLOT_BITS)) as usize;
    (base + usize::from(displacement)) & ((1 << SLOT_BITS) - 1)
}
