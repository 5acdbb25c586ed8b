//! What a process cannot go on with: another configuration file, another node. It ends, and starts anew.
//!
//! Sources: `cmd/kube-proxy/app/options.go` (`initWatcher`), `pkg/proxy/node.go`.

#![allow(
    unsafe_code,
    reason = "the runtime has to be told that a descriptor stays what it is"
)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use component::informer::{Event, Informer};
use component::supervisor::BoxError;
use component::{Supervisor, Task};
use k8s_openapi::api::core::v1::Node;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

use crate::node::{host_ips, pod_cidrs};

/// An inotify that the runtime can wait for.
struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Ends the process when the file is written or replaced.
pub(super) fn file(path: &Path, tasks: &Supervisor) -> io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    inotify.add_watch(path, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVE_SELF)?;
    // SAFETY: `Watch` owns its descriptor and always names the same one.
    let inotify = unsafe { AsyncFd::register(Watch(inotify)) }.map_err(io::Error::from)?;
    tasks.spawn(Task::Critical, "configuration", async move {
        loop {
            let mut ready = inotify.readable().await?;
            match inotify.get_ref().0.read_events() {
                // The file is gone: nothing new is said.
                Ok(events)
                    if events
                        .iter()
                        .all(|e| e.mask.contains(AddWatchFlags::IN_IGNORED)) => {}
                Ok(_) => break,
                Err(nix::Error::EAGAIN) => ready.clear_ready(),
                Err(err) => return Err(BoxError::from(err)),
            }
        }
        Err(BoxError::from(
            "content of the proxy server's configuration file was updated",
        ))
    });
    Ok(())
}

/// Ends the process when the Node is deleted or has other addresses, or another range of pods where that
/// matters.
pub(super) fn node(
    informer: &Informer<Node>,
    ips: Vec<IpAddr>,
    pods: Option<Vec<String>>,
    tasks: &Supervisor,
) {
    let tasks = tasks.clone();
    informer.subscribe(move |_, event| {
        let why = match event {
            Event::Deleted(_) => "the Node is being deleted",
            Event::Added(node) | Event::Updated { new: node, .. } => {
                if host_ips(node) != ips {
                    "the Node's addresses changed"
                } else if pods.as_ref().is_some_and(|pods| *pods != pod_cidrs(node)) {
                    "the Node's podCIDRs changed"
                } else {
                    return;
                }
            }
        };
        tasks.fail("node", why);
    });
}
