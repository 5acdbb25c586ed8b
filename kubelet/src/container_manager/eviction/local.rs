//! Limits on local storage: of volumes, containers and pods. Pure.

use k8s_openapi::api::core::v1::Pod;

use super::rank::Usage;
use crate::make::sums::{self, List};

const STORAGE: &str = "ephemeral-storage";

/// Whether there is anything to enforce.
#[must_use]
pub fn has_limits(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let volumes = spec.volumes.iter().flatten();
    let mut limited = volumes.filter_map(|v| v.empty_dir.as_ref()?.size_limit.as_ref());
    let mut containers = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    limited.next().is_some()
        || containers.any(|c| !sums::amount(c, List::Limits, STORAGE).is_zero())
}

/// The message for a pod that uses more than it may.
#[must_use]
pub fn exceeded(pod: &Pod, usage: &Usage, separate_images: bool) -> Option<String> {
    volume(pod, usage)
        .or_else(|| whole(pod, usage))
        .or_else(|| container(pod, usage, separate_images))
}

fn over(used: u64, limit: proto::quantity::Quantity) -> bool {
    i128::from(used) > i128::from(limit.value())
}

fn volume(pod: &Pod, usage: &Usage) -> Option<String> {
    let volumes = pod.spec.as_ref()?.volumes.as_ref()?;
    volumes.iter().find_map(|volume| {
        let dir = volume.empty_dir.as_ref()?;
        // Those in memory are limited by the kernel.
        if dir.medium.as_deref() == Some("Memory") {
            return None;
        }
        let text = &dir.size_limit.as_ref()?.0;
        let limit: proto::quantity::Quantity = text.parse().ok()?;
        let used = *usage.volumes.get(&volume.name)?;
        (limit.signum() > 0 && over(used, limit)).then(|| {
            format!(
                "Usage of EmptyDir volume {:?} exceeds the limit {limit:?}. ",
                volume.name,
                limit = limit.to_string()
            )
        })
    })
}

fn whole(pod: &Pod, usage: &Usage) -> Option<String> {
    let limits = sums::of_pod(pod, List::Limits);
    let limit = *limits.get(STORAGE)?;
    over(usage.disk.bytes, limit).then(|| {
        format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. ")
    })
}

fn container(pod: &Pod, usage: &Usage, separate_images: bool) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    all.find_map(|container| {
        let limit = sums::amount(container, List::Limits, STORAGE);
        let used = usage.containers.get(&container.name)?;
        // Layers on a file system of their own do not count.
        let layer = if separate_images { 0 } else { used.layer? };
        let used = used.logs?.saturating_add(layer);
        (!limit.is_zero() && over(used, limit)).then(|| {
            format!(
                "Container {} exceeded its local ephemeral storage limit {:?}. ",
                container.name,
                limit.to_string()
            )
        })
    })
}
