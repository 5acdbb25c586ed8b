//! What a container mounts, and the devices it gets.
//!
//! Upstream: `ValidateVolumeMounts`, `ValidateVolumeDevices`. Some errors about an item are said of the
//! list.

use std::collections::HashSet;

use proto::Value;
use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::view::core_v1::{Container, VolumeMount};

use super::files::{descending, steps_back};
use super::volumes::Volumes;
use crate::rules;

const PROPAGATION: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];
const READ_ONLY: [&str; 3] = ["Disabled", "Enabled", "IfPossible"];
const BIND_OPTIONS: [&str; 3] = ["nodev", "noexec", "nosuid"];

pub(super) fn mounts(e: &mut Errors<'_>, container: Container<'_>, volumes: &Volumes<'_>) {
    let list = Spot::of(container).field(Container::VOLUME_MOUNTS);
    let devices = container.volume_devices();
    let mut paths: HashSet<&str> = HashSet::new();
    for mount in container.volume_mounts() {
        let at = Spot::of(mount);
        rules::required(e, mount, n::NAME);
        if !volumes.contains_key(mount.name()) {
            e.not_found(at.field(n::NAME), mount.name());
        }
        rules::required(e, mount, n::MOUNT_PATH);
        let path = mount.mount_path();
        if !paths.insert(path) {
            e.invalid(at.field(n::MOUNT_PATH), path, "must be unique");
        }
        if devices.iter().any(|device| device.name() == mount.name()) {
            let detail = "must not already exist in volumeDevices";
            e.invalid(at.field(n::NAME), mount.name(), detail);
        }
        if device_paths(container).any(|device| device == path) {
            let detail = "must not already exist as a path in volumeDevices";
            e.invalid(at.field(n::MOUNT_PATH), path, detail);
        }
        let (sub_path, expression) = (mount.sub_path(), mount.sub_path_expr());
        if !sub_path.is_empty() {
            descending(e, list.field(n::SUB_PATH), sub_path);
        }
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let detail = "subPathExpr and subPath are mutually exclusive";
                e.invalid(at.field(n::SUB_PATH_EXPR), expression, detail);
            }
            descending(e, list.field(n::SUB_PATH_EXPR), expression);
        }
        propagation(e, container, mount, list);
        recursive_read_only(e, mount, list);
        bind_options(e, mount, volumes);
    }
}

/// Paths of devices; of two devices of one name the last counts.
fn device_paths<'a>(container: Container<'a>) -> impl Iterator<Item = &'a str> {
    let devices = container.volume_devices();
    let last = move |i: usize, name: &str| !devices.iter().skip(i + 1).any(|d| d.name() == name);
    devices
        .iter()
        .enumerate()
        .filter(move |(i, device)| last(*i, device.name()))
        .map(|(_, device)| device.device_path())
}

/// The same of mounts.
fn mount_paths<'a>(container: Container<'a>) -> impl Iterator<Item = &'a str> {
    let mounts = container.volume_mounts();
    let last = move |i: usize, name: &str| !mounts.iter().skip(i + 1).any(|m| m.name() == name);
    mounts
        .iter()
        .enumerate()
        .filter(move |(i, mount)| last(*i, mount.name()))
        .map(|(_, mount)| mount.mount_path())
}

fn propagation(
    e: &mut Errors<'_>,
    container: Container<'_>,
    mount: VolumeMount<'_>,
    list: Spot<'_>,
) {
    let Some(mode) = mount.mount_propagation() else {
        return;
    };
    let at = list.field(n::MOUNT_PROPAGATION);
    rules::known(e, at, mode, &PROPAGATION);
    let privileged = container.security_context().and_then(|c| c.privileged()) == Some(true);
    if mode == "Bidirectional" && !privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        e.forbidden(at, detail);
    }
}

fn recursive_read_only(e: &mut Errors<'_>, mount: VolumeMount<'_>, list: Spot<'_>) {
    let at = list.field(n::RECURSIVE_READ_ONLY);
    match mount.recursive_read_only() {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.read_only() {
                e.forbidden(at, "may only be specified when readOnly is true");
            }
            if mount.mount_propagation().is_some_and(|mode| mode != "None") {
                let detail = "may only be specified when mountPropagation is None or not specified";
                e.forbidden(at, detail);
            }
        }
        Some(other) => rules::known(e, at, other, &READ_ONLY),
    }
}

/// Fields of a gate that is off: only pods that have them may keep them.
fn bind_options(e: &mut Errors<'_>, mount: VolumeMount<'_>, volumes: &Volumes<'_>) {
    let options = mount.bind_mount_options();
    let at = Spot::of(mount).field(n::BIND_MOUNT_OPTIONS);
    let mut seen = HashSet::new();
    for (i, option) in options.iter().filter_map(Value::as_str).enumerate() {
        if !BIND_OPTIONS.contains(&option) {
            e.not_supported(at.index(i), option, &BIND_OPTIONS);
        }
        if !seen.insert(option) {
            e.duplicate(at.index(i), option);
        }
    }
    let image = volumes.get(mount.name()).and_then(|v| v.image());
    if !options.is_empty() && image.is_some() {
        let shown = Value::List(options.to_vec());
        e.invalid(
            at,
            &shown,
            "bindMountOptions may not be used with image volumes",
        );
    }
}

pub(super) fn devices(e: &mut Errors<'_>, container: Container<'_>, volumes: &Volumes<'_>) {
    let mounts = container.volume_mounts();
    let (mut paths, mut names) = (HashSet::new(), HashSet::new());
    for device in container.volume_devices() {
        let at = Spot::of(device);
        let (name, path) = (device.name(), device.device_path());
        rules::required(e, device, n::NAME);
        if names.contains(name) {
            e.invalid(at.field(n::NAME), name, "must be unique");
        }
        match volumes.get(name) {
            None => e.not_found(at.field(n::NAME), name),
            Some(v) if v.persistent_volume_claim().is_none() && v.ephemeral().is_none() => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                e.invalid(at.field(n::NAME), name, detail);
            }
            Some(_) => {}
        }
        rules::required(e, device, n::DEVICE_PATH);
        if paths.contains(path) {
            e.invalid(at.field(n::DEVICE_PATH), path, "must be unique");
        }
        if steps_back(path) {
            e.invalid(
                at.field(n::DEVICE_PATH),
                path,
                "can not contain backsteps ('..')",
            );
        } else {
            paths.insert(path);
        }
        if mounts.iter().any(|mount| mount.name() == name) {
            let detail = "must not already exist in volumeMounts";
            e.invalid(at.field(n::NAME), name, detail);
        }
        if mount_paths(container).any(|mount| mount == path) {
            let detail = "must not already exist as a path in volumeMounts";
            e.invalid(at.field(n::DEVICE_PATH), path, detail);
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}
