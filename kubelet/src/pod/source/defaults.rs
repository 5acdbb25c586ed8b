//! Defaults that the API server gives pods, for those that never pass there: upstream's
//! `pkg/apis/core/v1/defaults.go`.

use k8s_openapi::api::core::v1::{Container, PodSpec, Probe, Volume};

use crate::image::reference::Reference;

fn text(field: &mut Option<String>, value: &str) {
    if field.as_deref().unwrap_or_default().is_empty() {
        *field = Some(value.to_owned());
    }
}

pub(super) fn set(spec: &mut PodSpec) {
    text(&mut spec.dns_policy, "ClusterFirst");
    text(&mut spec.restart_policy, "Always");
    text(&mut spec.scheduler_name, "default-scheduler");
    spec.security_context.get_or_insert_default();
    let grace = spec.termination_grace_period_seconds.get_or_insert(30);
    if *grace < 0 {
        *grace = 1;
    }
    spec.enable_service_links.get_or_insert(true);
    let host_network = spec.host_network.unwrap_or_default();
    let init = spec.init_containers.iter_mut().flatten();
    for container in init.chain(&mut spec.containers) {
        of_container(container, host_network);
    }
    for volume in spec.volumes.iter_mut().flatten() {
        of_volume(volume);
    }
}

fn of_container(container: &mut Container, host_network: bool) {
    let image = container.image.as_deref().unwrap_or_default();
    let latest = image.parse::<Reference>().is_ok_and(|image| {
        image.digest().is_none() && image.tag().is_none_or(|tag| tag == "latest")
    });
    let policy = if latest { "Always" } else { "IfNotPresent" };
    text(&mut container.image_pull_policy, policy);
    text(
        &mut container.termination_message_path,
        "/dev/termination-log",
    );
    text(&mut container.termination_message_policy, "File");
    for port in container.ports.iter_mut().flatten() {
        text(&mut port.protocol, "TCP");
        if host_network && port.host_port.unwrap_or_default() == 0 {
            port.host_port = Some(port.container_port);
        }
    }
    if let Some(resources) = &mut container.resources
        && let Some(limits) = &resources.limits
    {
        let requests = resources.requests.get_or_insert_default();
        for (name, limit) in limits {
            requests
                .entry(name.clone())
                .or_insert_with(|| limit.clone());
        }
    }
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    probes.into_iter().flatten().for_each(of_probe);
    for env in container.env.iter_mut().flatten() {
        let field = env.value_from.as_mut().and_then(|f| f.field_ref.as_mut());
        if let Some(field) = field {
            text(&mut field.api_version, "v1");
        }
    }
}

fn of_probe(probe: &mut Probe) {
    let number = |field: &mut Option<i32>, value| {
        if field.unwrap_or_default() == 0 {
            *field = Some(value);
        }
    };
    number(&mut probe.timeout_seconds, 1);
    number(&mut probe.period_seconds, 10);
    number(&mut probe.success_threshold, 1);
    number(&mut probe.failure_threshold, 3);
    if let Some(http) = &mut probe.http_get {
        text(&mut http.path, "/");
        text(&mut http.scheme, "HTTP");
    }
}

fn of_volume(volume: &mut Volume) {
    /// `rw-r--r--`
    const MODE: i32 = 0o644;
    if let Some(path) = &mut volume.host_path {
        path.type_.get_or_insert_default();
    }
    if let Some(downward) = &mut volume.downward_api {
        downward.default_mode.get_or_insert(MODE);
        for item in downward.items.iter_mut().flatten() {
            if let Some(field) = &mut item.field_ref {
                text(&mut field.api_version, "v1");
            }
        }
    }
    if let Some(projected) = &mut volume.projected {
        projected.default_mode.get_or_insert(MODE);
    }
}
