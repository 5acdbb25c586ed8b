//! Labels by which the runtime's objects tell whose they are; upstream's names.

pub(super) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(super) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
