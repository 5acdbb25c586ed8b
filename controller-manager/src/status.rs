//! Writing a status, and only if it changed.
//!
//! Controllers have the right to update a status, not to patch it: their roles are upstream's. So the object as the
//! cache has it goes to the status subresource; the server takes the status of it and nothing of the spec, and refuses
//! it if the object changed meanwhile.

use component::client::{Api, Kind};

use crate::error::Error;

/// Changes the status of `seen` and sends it if that makes a difference; the object as it is then, or none if nothing
/// was sent.
///
/// # Errors
/// `Conflict` if the object is not any more as it was seen: the runner looks again soon. An object that is gone is no
/// error.
pub async fn update<K: Kind + PartialEq>(
    api: &Api<K>,
    seen: &K,
    change: impl FnOnce(&mut K),
) -> Result<Option<K>, Error> {
    let mut changed = seen.clone();
    change(&mut changed);
    if changed == *seen {
        return Ok(None);
    }
    match api.replace_status(&changed).await {
        Ok(written) => Ok(Some(written)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

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
