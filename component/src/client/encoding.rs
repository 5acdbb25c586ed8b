//! In which form answers are asked for.

use std::any::TypeId;

use super::{Kind, PartialObjectMetadata, Target};

/// The media type of Kubernetes' protobuf.
pub(super) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What of an object is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Full,
    Metadata,
}

impl Form {
    pub(super) fn of<K: Kind>(_target: &Target) -> Self {
        if TypeId::of::<K>() == TypeId::of::<PartialObjectMetadata>() {
            Self::Metadata
        } else {
            Self::Full
        }
    }

    pub(super) fn object(self) -> &'static str {
        match self {
            Self::Full => "application/json",
            Self::Metadata => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        }
    }

    pub(super) fn list(self) -> &'static str {
        match self {
            Self::Full => "application/json",
            Self::Metadata => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        }
    }

    pub(super) fn watch(self) -> &'static str {
        self.object()
    }
}
