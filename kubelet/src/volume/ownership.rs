//! Who owns what the kubelet makes for a pod: upstream's `pkg/volume/volume_linux.go`.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use nix::fcntl::{AtFlags, OFlag};
use nix::unistd::{Gid, fchownat};

use super::persistent::Group;
use crate::sys::open;

const READ_WRITE: u32 = 0o660;
const READ: u32 = 0o440;
const EXECUTE: u32 = 0o110;
const SET_GID: u32 = 0o2000;

/// Gives a tree to a group, with the modes that let it work there. Links are not followed, and
/// nothing is reached through one that somebody puts there meanwhile.
pub(super) fn give_to_group(dir: &Path, group: u32, read_only: bool) -> io::Result<()> {
    give(
        open::root(dir)?,
        group,
        if read_only { READ } else { READ_WRITE },
    )
}

/// The same; but a tree whose root is the group's already is left as it is if the pod asks for that.
pub(super) fn give_as_asked(
    dir: &Path,
    group: u32,
    read_only: bool,
    on_root_mismatch: bool,
) -> io::Result<()> {
    if on_root_mismatch && is_given(dir, group, read_only)? {
        return Ok(());
    }
    give_to_group(dir, group, read_only)
}

/// Whether the root of a tree is as [`give_to_group`] leaves it, or more open.
fn is_given(dir: &Path, group: u32, read_only: bool) -> io::Result<bool> {
    let meta = fs::metadata(dir)?;
    let rights = if read_only { READ } else { READ_WRITE };
    let wanted = rights | EXECUTE | SET_GID;
    Ok(meta.is_dir() && meta.gid() == group && meta.mode() & wanted == wanted)
}

fn give(dir: OwnedFd, group: u32, mask: u32) -> io::Result<()> {
    let mut todo = vec![dir];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(open::proc_path(&dir))? {
            let file = match open::name_in(&dir, &entry?.file_name(), OFlag::O_PATH) {
                // Gone meanwhile.
                Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            match kind(&file)? {
                libc::S_IFDIR => todo.push(file),
                kind => change(&file, kind, group, mask)?,
            }
        }
        change(&dir, libc::S_IFDIR, group, mask)?;
    }
    Ok(())
}

fn kind(file: &OwnedFd) -> io::Result<libc::mode_t> {
    Ok(nix::sys::stat::fstat(file)?.st_mode & libc::S_IFMT)
}

fn change(file: &OwnedFd, kind: libc::mode_t, group: u32, mut mask: u32) -> io::Result<()> {
    fchownat(
        file.as_fd(),
        "",
        None,
        Some(Gid::from_raw(group)),
        AtFlags::AT_EMPTY_PATH,
    )?;
    if kind == libc::S_IFLNK {
        return Ok(());
    }
    if kind == libc::S_IFDIR {
        mask |= SET_GID | EXECUTE;
    }
    let mode = nix::sys::stat::fstat(file)?.st_mode & 0o7777;
    fs::set_permissions(open::proc_path(file), Permissions::from_mode(mode | mask))
}

/// `securityContext.fsGroup`.
pub(super) fn fs_group(pod: &Pod) -> Option<u32> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    u32::try_from(context.fs_group?).ok()
}

/// The same with `fsGroupChangePolicy`, for volumes that outlive the pod.
pub(super) fn group(pod: &Pod) -> Option<Group> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    Some(Group {
        id: fs_group(pod)?,
        on_root_mismatch: context.fs_group_change_policy.as_deref() == Some("OnRootMismatch"),
    })
}

/// The user that every container of the pod runs as, if the specification says and they agree.
pub(super) fn fs_user(pod: &Pod) -> Option<u32> {
    let spec: &PodSpec = pod.spec.as_ref()?;
    let of_pod = spec
        .security_context
        .as_ref()
        .and_then(|context| context.run_as_user);
    let init = spec.init_containers.iter().flatten();
    let users = init.chain(&spec.containers).map(|container| {
        container
            .security_context
            .as_ref()
            .and_then(|context| context.run_as_user)
            .or(of_pod)
    });
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| {
        container
            .security_context
            .as_ref()
            .and_then(|context| context.run_as_user)
            .or(of_pod)
    });
    let mut users = users.chain(ephemeral);
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then(|| u32::try_from(first).ok())?
}
