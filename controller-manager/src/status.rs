//! Numbers as statuses hold them.

/// A count as the API writes it in a field that it leaves out when it is zero.
#[must_use]
pub fn count(n: usize) -> Option<i32> {
    nonzero(whole(n))
}

/// A number in such a field.
#[must_use]
pub fn nonzero(n: i32) -> Option<i32> {
    (n != 0).then_some(n)
}

/// A count as a number.
#[must_use]
pub fn whole(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
