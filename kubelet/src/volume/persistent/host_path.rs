//! Persistent volumes that are files or directories of the node: upstream's `kubernetes.io/host-path`.

use futures::FutureExt;
use k8s_openapi::api::core::v1::PersistentVolumeSpec;

use super::{Answer, Plugin, Site, blocking};
use crate::volume::claim::Bound;
use crate::volume::{Volume, host_path};

pub(super) struct HostPath;

impl Plugin for HostPath {
    fn name(&self) -> &'static str {
        "kubernetes.io/host-path"
    }

    fn supports(&self, spec: &PersistentVolumeSpec) -> bool {
        spec.host_path.is_some()
    }

    /// Nothing is mounted for it.
    fn is_published(&self, _: &Volume) -> bool {
        true
    }

    fn publish<'a>(&'a self, of: &'a Bound, _: &'a Site<'_>) -> Answer<'a, Volume> {
        let spec = of.volume.spec.as_ref();
        let source = spec.and_then(|spec| spec.host_path.clone());
        let read_only = of.read_only;
        blocking(move || {
            let source = source.unwrap_or_default();
            let kind = source.type_.unwrap_or_default();
            let checked = host_path::check(&source.path, &kind);
            checked.map_err(|err| err.to_string())?;
            Ok(Volume {
                path: source.path.into(),
                read_only,
                ..Volume::default()
            })
        })
        .boxed()
    }
}
