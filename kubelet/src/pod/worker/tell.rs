//! Events of a pod and its containers.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::Pod;

use super::Worker;
use crate::make;
use crate::pod::next::Next;
use crate::pod::seen::Seen;
use crate::volume;

impl Worker {
    pub(super) fn note(&self, pod: &Pod, reason: &str, message: &str) {
        let about = component::events::reference(pod);
        self.shared.parts.recorder.normal(&about, reason, message);
    }

    pub(super) fn warn(&self, pod: &Pod, reason: &str, message: &str) {
        let about = component::events::reference(pod);
        self.shared.parts.recorder.warning(&about, reason, message);
    }

    pub(super) fn note_container(&self, pod: &Pod, name: &str, reason: &str, message: &str) {
        let about = make::reference(pod, name);
        self.shared.parts.recorder.normal(&about, reason, message);
    }

    pub(super) fn warn_container(&self, pod: &Pod, name: &str, reason: &str, message: &str) {
        let about = make::reference(pod, name);
        self.shared.parts.recorder.warning(&about, reason, message);
    }

    /// Containers that wait after a crash: one event for each wait.
    pub(super) fn tell_waits(&self, pod: &Pod, next: &Next, seen: &Seen) {
        for name in &next.backing_off {
            let last = crate::pod::next::exited(seen, name);
            let id = last.map(|c| c.status.id.clone()).unwrap_or_default();
            let told = self.memory.lock().told.insert(name.clone(), id.clone());
            if told.as_ref() != Some(&id) {
                let pod_name = make::describe(pod);
                let message =
                    format!("Back-off restarting failed container {name} in pod {pod_name}");
                self.warn_container(pod, name, "BackOff", &message);
            }
        }
    }

    pub(super) fn tell_mount_failures(&self, pod: &Pod, failures: &[volume::Failure]) {
        for (reason, message) in volume::events(failures) {
            self.warn(pod, reason, &message);
        }
        let now = SystemTime::now();
        self.memory.lock().retries.failed(super::retry::POD, now);
    }
}
