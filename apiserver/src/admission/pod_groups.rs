//! `PodGroupProtection`: a group of pods stays until no pod is in it any more.
//! Upstream: `plugin/pkg/admission/scheduling/podgroupprotection`.

use proto::meta;

use super::{Attributes, CREATE, Plugin};
use crate::server::Server;

pub(super) const PROTECTION: Plugin = Plugin {
    name: "PodGroupProtection",
    on_by_default: true,
    operations: CREATE,
    mutate: Some(|server, write| {
        protect(server, write);
        Box::pin(std::future::ready(Ok(())))
    }),
    ..Plugin::OFF
};

const FINALIZER: &str = "scheduling.k8s.io/podgroup-protection";

fn protect(server: &Server, write: &mut Attributes<'_>) {
    if server.config.features.enabled("GenericWorkload")
        && write.is("scheduling.k8s.io", "podgroups")
        && let Some(group) = write.object.as_deref_mut()
    {
        meta::add_finalizer(group, FINALIZER);
    }
}
