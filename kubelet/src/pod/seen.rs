//! What the runtime has of a pod.
//!
//! A pod's containers are found by their labels, and what the status needs (hash, restarts, where
//! the termination message is) comes from their annotations: a kubelet that was restarted knows all
//! of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::SystemTime;

use crate::make::labels;
use crate::runtime::{ContainerState, ContainerStatus, Network, PodSandboxState, PodSandboxStatus};

/// A container of the pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Container {
    pub(crate) name: String,
    /// Of the part of the specification whose change makes another container.
    pub(crate) hash: Option<u64>,
    pub(crate) restarts: u32,
    /// The runtime's words and the container's own.
    pub(crate) message: String,
    pub(crate) status: ContainerStatus,
}

impl Container {
    /// `message` is what the container left as its termination message.
    pub(crate) fn new(status: ContainerStatus, message: &str) -> Self {
        let known = labels::recover(&status.labels, &status.annotations);
        let mut all = status.message.clone();
        if !message.is_empty() && !all.is_empty() {
            all.push_str(": ");
        }
        all.push_str(message);
        Self {
            name: if known.container.is_empty() {
                status.metadata.name.clone()
            } else {
                known.container
            },
            hash: Some(known.hash).filter(|hash| *hash != 0),
            restarts: known.restart_count,
            message: all,
            status,
        }
    }

    pub(crate) fn is(&self, state: ContainerState) -> bool {
        self.status.state == state
    }

    /// When it ended; when it was made, if it never ran.
    pub(crate) fn finished(&self) -> SystemTime {
        let status = &self.status;
        status
            .finished_at
            .or(status.started_at)
            .unwrap_or(status.created_at)
    }
}

/// A pod's sandboxes and containers, each the newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) sandboxes: Vec<PodSandboxStatus>,
    pub(crate) containers: Vec<Container>,
}

impl Seen {
    /// `messages` holds the termination messages by container id.
    pub(crate) fn new(
        mut sandboxes: Vec<PodSandboxStatus>,
        mut containers: Vec<ContainerStatus>,
        messages: &BTreeMap<String, String>,
    ) -> Self {
        sandboxes.sort_by(|a, b| {
            let key = |s: &PodSandboxStatus| (s.config.metadata.attempt, s.created_at);
            key(b).cmp(&key(a))
        });
        containers.sort_by_key(|c| std::cmp::Reverse(c.created_at));
        let message = |id: &str| messages.get(id).map_or("", String::as_str);
        let containers = containers.into_iter().map(|status| {
            let message = message(&status.id);
            Container::new(status, message)
        });
        Self {
            containers: containers.collect(),
            sandboxes,
        }
    }

    /// The newest container of this name.
    pub(crate) fn last(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// The newest container of this name in the newest sandbox.
    pub(crate) fn active(&self, name: &str) -> Option<&Container> {
        let sandbox = &self.sandboxes.first()?.id;
        let mut containers = self.containers.iter();
        containers.find(|c| c.name == name && c.status.sandbox == *sandbox)
    }

    /// The sandbox that takes containers.
    pub(crate) fn ready_sandbox(&self) -> Option<&PodSandboxStatus> {
        let first = self.sandboxes.first()?;
        (first.state == PodSandboxState::Ready).then_some(first)
    }

    /// Addresses of the newest sandbox, while it is there.
    pub(crate) fn ips(&self) -> &[IpAddr] {
        self.ready_sandbox()
            .map(|sandbox| sandbox.config.ips.as_slice())
            .unwrap_or_default()
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &Container> {
        let running = |c: &&Container| c.is(ContainerState::Running);
        self.containers.iter().filter(running)
    }

    /// Whether anything may still run: containers, or a sandbox that holds namespaces.
    pub(crate) fn is_at_rest(&self) -> bool {
        let ready = |s: &PodSandboxStatus| s.state == PodSandboxState::Ready;
        self.running().next().is_none() && !self.sandboxes.iter().any(ready)
    }

    /// Whether the pod needs another sandbox: the attempt that it would be, and why.
    pub(crate) fn needs_sandbox(&self, host_network: bool) -> Option<(u32, &'static str)> {
        let Some(last) = self.sandboxes.first() else {
            return Some((0, "no pod sandbox exists"));
        };
        let ready = |s: &&PodSandboxStatus| s.state == PodSandboxState::Ready;
        let on_node = last.config.network == Network::Node;
        let why = if self.sandboxes.iter().filter(ready).count() > 1 {
            "multiple pod sandboxes are ready and need to be reconciled"
        } else if last.state != PodSandboxState::Ready {
            "pod sandbox is not ready"
        } else if on_node != host_network {
            "network namespace mode changed and sandbox needs to be recreated"
        } else if !host_network && last.config.ips.is_empty() {
            "pod sandbox has no IP address"
        } else {
            return None;
        };
        Some((last.config.metadata.attempt.saturating_add(1), why))
    }
}
