//! Finding again what ran before: at start, and when a shim is lost.
//!
//! A shim that is there knows everything. One that is not takes its containers along: what is left of
//! them is found by their cgroups and killed, and their end is recorded as one that nobody saw.

use std::path::PathBuf;
use std::sync::Arc;

use shim::record;

use super::container::{self, Container};
use super::disk::{self, SavedContainer, SavedSandbox};
use super::sandbox::Sandbox;
use super::{Error, Native};
use crate::runtime::event::EventKind;

/// What a container's directory has once a helper was at work in it.
const TOUCHED: &str = "config.json";

impl Native {
    /// Reads the directories and connects to the shims, to all at once.
    pub(super) async fn recover(&self) -> Result<(), Error> {
        let mut found = Vec::new();
        for (_, pod) in disk::directories(&self.inner.root.join("pods")) {
            found.extend(disk::directories(&pod));
        }
        let each = found.into_iter().map(|(id, dir)| self.recover_one(id, dir));
        futures::future::join_all(each).await;
        Ok(())
    }

    async fn recover_one(&self, id: String, dir: PathBuf) {
        let Some(saved) = disk::load::<SavedSandbox>(&dir.join(disk::SANDBOX)) else {
            // Nothing but directories is made before that file.
            if let Err(error) = disk::remove_dir(&dir) {
                let error = component::supervisor::chain(&error);
                tracing::warn!(
                    sandbox = id,
                    error,
                    "Removing a sandbox that cannot be read"
                );
            }
            return;
        };
        let sandbox = Sandbox::new(id.clone(), dir, saved);
        if !sandbox.dir.join(disk::MADE).exists() {
            // Its kubelet ended while it made it.
            if let Err(error) = self.clear_sandbox(&sandbox).await {
                let error = component::supervisor::chain(&error);
                tracing::warn!(sandbox = id, error, "Removing an unfinished sandbox");
            }
            return;
        }
        self.load_containers(&sandbox);
        self.inner.sandboxes.lock().insert(id, Arc::clone(&sandbox));
        self.reconnect(&sandbox).await;
    }

    fn load_containers(&self, sandbox: &Arc<Sandbox>) {
        for (id, dir) in disk::directories(&sandbox.dir) {
            let Some(saved) = disk::load::<SavedContainer>(&dir.join(disk::CONTAINER)) else {
                continue; // shm, or one whose create was not finished: goes with the sandbox
            };
            let container = Container::new(&sandbox.id, id.clone(), dir, saved);
            match record::read(&container.dir) {
                Ok(Some(exit)) => drop(container.ended(exit)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(container = id, %error, "Reading an exit");
                    container.ended(container::lost());
                }
            }
            sandbox.containers.lock().insert(id, container);
        }
    }

    /// Connects to a sandbox's shim, or finds that it is gone for good.
    pub(super) async fn reconnect(&self, sandbox: &Arc<Sandbox>) {
        if !sandbox.is_stopped() {
            match self.connect(sandbox).await {
                Ok(()) => return,
                Err(error) => {
                    let error = component::supervisor::chain(&error);
                    tracing::warn!(sandbox = sandbox.id, error, "The shim of a sandbox is gone");
                }
            }
        }
        self.lose(sandbox).await;
    }

    /// Ends what is left without a shim.
    async fn lose(&self, sandbox: &Arc<Sandbox>) {
        sandbox.disconnected();
        for container in sandbox.container_list() {
            if container.live.borrow().exit.is_some() {
                continue;
            }
            let touched = container.is_running() || container.dir.join(TOUCHED).exists();
            self.clear(&container.saved.cgroup).await;
            // The shim may have written the end before its own.
            let exit = match record::read(&container.dir) {
                Ok(Some(exit)) => exit,
                _ if touched => container::lost(),
                _ => continue, // never started
            };
            if let Err(error) = record::write(&container.dir, &exit) {
                tracing::warn!(container = container.id, %error, "Writing an exit");
            }
            container.ended(exit);
            self.publish(EventKind::ContainerStopped, sandbox, Some(&container.id));
        }
        // A shim that is alive but of no use would own what comes after.
        self.clear(&sandbox.shim_cgroup).await;
        self.clear(&sandbox.pause_cgroup()).await;
        self.publish(EventKind::SandboxGone, sandbox, None);
    }

    async fn clear(&self, cgroup: &str) {
        if let Err(error) = self.clear_cgroup(cgroup).await {
            let error = component::supervisor::chain(&error);
            tracing::warn!(cgroup, error, "Clearing a cgroup");
        }
    }
}
