//! In which form answers are asked for.
//!
//! Protobuf where the catalogue knows the message, JSON for the rest and as the second choice; the
//! server says in the answer itself what it chose.

use std::any::TypeId;

use proto::catalogue::message_of;

use super::{Kind, PartialObjectMetadata, Target};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const JSON: &str = "application/json";

/// What of an object is wanted, and whether it can be protobuf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    only_metadata: bool,
    protobuf: bool,
}

impl Form {
    pub(super) fn of<K: Kind>(target: &Target) -> Self {
        let only_metadata = TypeId::of::<K>() == TypeId::of::<PartialObjectMetadata>();
        // The server knows custom resources in JSON only, their metadata in both.
        let protobuf =
            only_metadata || message_of(&target.group, &target.version, &target.kind).is_some();
        Self {
            only_metadata,
            protobuf,
        }
    }

    /// The `Accept` header for one object.
    pub(super) fn object(self) -> String {
        self.accept("PartialObjectMetadata")
    }

    /// For a list.
    pub(super) fn list(self) -> String {
        self.accept("PartialObjectMetadataList")
    }

    /// For a watch.
    pub(super) fn watch(self) -> String {
        let accept = self.object();
        if !self.protobuf {
            return accept;
        }
        accept.replacen(PROTOBUF, &format!("{PROTOBUF};stream=watch"), 1)
    }

    fn accept(self, partial: &str) -> String {
        let form = if self.only_metadata {
            format!(";as={partial};g=meta.k8s.io;v=v1")
        } else {
            String::new()
        };
        if self.protobuf {
            format!("{PROTOBUF}{form},{JSON}{form}")
        } else {
            format!("{JSON}{form}")
        }
    }
}

/// Whether an answer's stream is of length-prefixed protobuf.
pub(super) fn is_protobuf(content_type: &str) -> bool {
    content_type
        .split(';')
        .next()
        .is_some_and(|media| media.trim() == PROTOBUF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;

    #[test]
    fn json_is_always_among_the_choices() {
        let pods = Form::of::<Pod>(&Target::of::<Pod>());
        assert_eq!(
            pods.list(),
            "application/vnd.kubernetes.protobuf,application/json"
        );
        assert_eq!(
            pods.watch(),
            "application/vnd.kubernetes.protobuf;stream=watch,application/json"
        );
        let custom = Target::new("x.io", "v1", "things", "Thing");
        assert_eq!(Form::of::<Pod>(&custom).object(), "application/json");
        let meta = Form::of::<PartialObjectMetadata>(&custom);
        assert_eq!(
            meta.list(),
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
             application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        );
        assert!(
            is_protobuf("application/vnd.kubernetes.protobuf;stream=watch")
                && !is_protobuf("application/json")
        );
    }
}
