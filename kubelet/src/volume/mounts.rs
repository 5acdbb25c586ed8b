//! What of the pod's volumes a container sees, and where: upstream's `makeMounts`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{VolumeDevice, VolumeMount};

use super::subpath;
use super::{PodVolumes, Volumes};
use crate::runtime::{Device, Mount, MountPropagation};

/// Why a container's mounts cannot be had. The text goes into the container's status, so it tells
/// nothing about the node's files.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    NoVolume { volume: String, container: String },
    #[error("{0}")]
    Expand(String),
    #[error(transparent)]
    Path(PathError),
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}")]
    SubPath { volume: String, container: String },
    #[error("invalid MountPropagation mode: {0:?}")]
    Propagation(String),
    #[error("failed to resolve recursive read-only mode: {0}")]
    RecursiveReadOnly(String),
    #[error("error DevicePath `{0}` must be an absolute path")]
    DevicePath(String),
    #[error("cannot find volume {volume:?} to pass into container {container:?}")]
    NoDevice { volume: String, container: String },
}

/// A subPath that is none.
#[derive(thiserror::Error, Debug)]
#[error("{0}")]
pub struct PathError(String);

/// A container and what its mounts are made from.
pub struct ContainerMounts<'a> {
    pub pod_uid: &'a str,
    pub container: &'a str,
    pub mounts: &'a [VolumeMount],
    pub devices: &'a [VolumeDevice],
    /// As [`Volumes::set_up`] gave them.
    pub volumes: &'a PodVolumes,
    /// Where images are mounted, by the name of the volume.
    pub images: &'a BTreeMap<String, PathBuf>,
    /// Puts the container's environment into a subPathExpr.
    pub expand: &'a (dyn Fn(&str) -> Result<String, String> + Sync),
}

impl Volumes {
    /// The mounts of a container, in the order of its specification. Binds its subPaths; those stay
    /// until the pod's volumes are torn down. Blocks.
    pub fn container_mounts(&self, of: &ContainerMounts<'_>) -> Result<Vec<Mount>, Error> {
        let mounts = of.mounts.iter().enumerate();
        mounts
            .map(|(index, mount)| self.container_mount(of, index, mount))
            .collect()
    }

    /// The block devices of a container among its volumes.
    pub fn container_devices(&self, of: &ContainerMounts<'_>) -> Result<Vec<Device>, Error> {
        let devices = of.devices.iter();
        devices.map(|device| container_device(of, device)).collect()
    }

    fn container_mount(
        &self,
        of: &ContainerMounts<'_>,
        index: usize,
        mount: &VolumeMount,
    ) -> Result<Mount, Error> {
        let image = of.images.get(&mount.name).map(|path| (path, true));
        let volume = of.volumes.volumes.get(&mount.name);
        let volume = volume
            .filter(|volume| !volume.device)
            .map(|v| (&v.path, v.read_only));
        let (path, must_be_read_only) = image.or(volume).ok_or_else(|| Error::NoVolume {
            volume: mount.name.clone(),
            container: of.container.to_owned(),
        })?;
        let sub_path = match mount.sub_path_expr.as_deref() {
            None | Some("") => mount.sub_path.clone().unwrap_or_default(),
            Some(expression) => (of.expand)(expression).map_err(Error::Expand)?,
        };
        let host_path = match sub_path.as_str() {
            "" => path.clone(),
            sub_path => self.bind(of, index, mount, (path, image.is_some()), sub_path)?,
        };
        Ok(Mount {
            container_path: absolute(&mount.mount_path),
            host_path,
            readonly: mount.read_only.unwrap_or_default() || must_be_read_only,
            recursive_read_only: recursive_read_only(mount)?,
            propagation: propagation(mount.mount_propagation.as_deref())?,
            image: image.is_some(),
            ..Mount::default()
        })
    }

    fn bind(
        &self,
        of: &ContainerMounts<'_>,
        index: usize,
        mount: &VolumeMount,
        (path, is_image): (&Path, bool),
        sub_path: &str,
    ) -> Result<PathBuf, Error> {
        subpath::check(sub_path).map_err(|err| Error::Path(PathError(err.to_string())))?;
        let pod_dir = self.pod_dir(of.pod_uid);
        let target = subpath::target(&pod_dir, &mount.name, of.container, index);
        let bound = subpath::open_part(path, sub_path, is_image)
            .and_then(|part| subpath::bind(&part, &target));
        bound.map(|()| target).map_err(|error| {
            let path = path.display();
            tracing::warn!(%path, sub_path, %error, "cannot prepare a subPath");
            Error::SubPath {
                volume: mount.name.clone(),
                container: of.container.to_owned(),
            }
        })
    }
}

fn container_device(of: &ContainerMounts<'_>, device: &VolumeDevice) -> Result<Device, Error> {
    if !device.device_path.starts_with('/') {
        return Err(Error::DevicePath(device.device_path.clone()));
    }
    let volume = of.volumes.volumes.get(&device.name);
    let volume = volume.filter(|volume| volume.device);
    let volume = volume.ok_or_else(|| Error::NoDevice {
        volume: device.name.clone(),
        container: of.container.to_owned(),
    })?;
    Ok(Device {
        container_path: device.device_path.clone().into(),
        host_path: volume.path.clone(),
        permissions: if volume.read_only { "r" } else { "mrw" }.to_owned(),
    })
}

fn absolute(path: &str) -> PathBuf {
    Path::new("/").join(path)
}

fn propagation(mode: Option<&str>) -> Result<MountPropagation, Error> {
    match mode {
        None | Some("None") => Ok(MountPropagation::Private),
        Some("HostToContainer") => Ok(MountPropagation::HostToContainer),
        Some("Bidirectional") => Ok(MountPropagation::Bidirectional),
        Some(other) => Err(Error::Propagation(other.to_owned())),
    }
}

/// Our runtime always can.
fn recursive_read_only(mount: &VolumeMount) -> Result<bool, Error> {
    let wrong = |what: String| {
        let name = &mount.name;
        Err(Error::RecursiveReadOnly(format!(
            "volume {name:?} requested recursive read-only mode, but it is {what}"
        )))
    };
    match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => return Ok(false),
        Some("IfPossible" | "Enabled") => {}
        Some(other) => {
            let text = format!("unknown recursive read-only mode {other:?}");
            return Err(Error::RecursiveReadOnly(text));
        }
    }
    if !mount.read_only.unwrap_or_default() {
        return wrong("not read-only".into());
    }
    match mount.mount_propagation.as_deref() {
        None | Some("None") => Ok(true),
        Some(mode) => wrong(format!("not compatible with propagation {mode:?}")),
    }
}
