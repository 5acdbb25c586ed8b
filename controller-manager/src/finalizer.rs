//! Finalizers that come with an object and stay while it is used.

use component::client::{Api, Kind};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::error::Error;
use crate::update::update;

/// What a finalizer needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Need {
    Nothing,
    Add,
    /// To be removed, once the object is not used.
    Remove,
}

/// What a finalizer of an object needs.
#[must_use]
pub fn need(meta: &ObjectMeta, finalizer: &str) -> Need {
    let has = meta.finalizers.iter().flatten().any(|f| f == finalizer);
    match (meta.deletion_timestamp.is_some(), has) {
        (false, false) => Need::Add,
        (true, true) => Need::Remove,
        _ => Need::Nothing,
    }
}

/// The metadata with or without a finalizer.
#[must_use]
pub fn changed(meta: &ObjectMeta, finalizer: &str, add: bool) -> ObjectMeta {
    let mut meta = meta.clone();
    let finalizers = meta.finalizers.get_or_insert_default();
    finalizers.retain(|f| f != finalizer);
    if add {
        finalizers.push(finalizer.to_owned());
    }
    meta
}

/// Adds a finalizer to an object, or removes it. An object that is gone needs neither.
///
/// # Errors
/// `Conflict` if the object is not any more as it was seen.
pub async fn set<K: Kind>(api: &Api<K>, seen: &K, finalizer: &str, add: bool) -> Result<(), Error> {
    let mut wanted = seen.clone();
    *wanted.metadata_mut() = changed(seen.metadata(), finalizer, add);
    match update(api, "", seen, &wanted).await {
        Err(e) if !e.is_not_found() => Err(e.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    #[test]
    fn finalizers_come_with_the_object_and_go_with_its_deletion() {
        let mut meta = ObjectMeta::default();
        assert_eq!(need(&meta, "f"), Need::Add);
        meta = changed(&meta, "f", true);
        assert_eq!(need(&meta, "f"), Need::Nothing);
        meta.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        assert_eq!(need(&meta, "f"), Need::Remove);
        assert_eq!(need(&changed(&meta, "f", false), "f"), Need::Nothing);
    }
}
