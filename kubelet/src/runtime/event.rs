//! What the runtime tells without being asked.
//!
//! Invariant: a subscriber never loses an event and never blocks anybody. Events of one container and
//! kind that were not read yet are one event, so what waits is bounded by what exists.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Something changed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Event {
    pub kind: EventKind,
    /// Uid of the pod, so that its worker can be woken.
    pub pod_uid: String,
    pub sandbox: String,
    /// `None` for events of the sandbox itself.
    pub container: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EventKind {
    ContainerCreated,
    ContainerStarted,
    /// The exit is on disk: status and log are complete.
    ContainerStopped,
    ContainerDeleted,
    /// A process of the container was killed for memory; the container may go on.
    ContainerOom,
    SandboxReady,
    /// Nothing of the sandbox runs any more.
    SandboxGone,
}

/// The sending side: hands each event to all subscribers.
#[derive(Default)]
pub(crate) struct Publisher {
    subscribers: Mutex<Vec<Weak<Queue>>>,
}

/// A subscription.
pub struct Events {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<Event>>,
    arrived: Notify,
}

impl Publisher {
    pub(crate) fn subscribe(&self) -> Events {
        let queue = Arc::new(Queue::default());
        let mut subscribers = self.subscribers.lock();
        subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        subscribers.push(Arc::downgrade(&queue));
        Events { queue }
    }

    pub(crate) fn publish(&self, event: &Event) {
        for queue in self.subscribers.lock().iter().filter_map(Weak::upgrade) {
            let mut waiting = queue.waiting.lock();
            if !waiting.contains(event) {
                waiting.push_back(event.clone());
            }
            drop(waiting);
            queue.arrived.notify_one();
        }
    }
}

impl Events {
    /// The next event. Cancel-safe: nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.queue.waiting.lock().pop_front() {
                return event;
            }
            self.queue.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(container: &str) -> Event {
        Event {
            kind: EventKind::ContainerStopped,
            pod_uid: "uid".into(),
            sandbox: "sandbox".into(),
            container: Some(container.into()),
        }
    }

    #[tokio::test]
    async fn equal_events_that_nobody_read_are_one() {
        let publisher = Publisher::default();
        let mut events = publisher.subscribe();
        for id in ["a", "b", "a"] {
            publisher.publish(&stopped(id));
        }
        assert_eq!(events.next().await, stopped("a"));
        publisher.publish(&stopped("a"));
        assert_eq!(events.next().await, stopped("b"));
        assert_eq!(events.next().await, stopped("a"));
    }

    #[tokio::test]
    async fn every_subscriber_sees_every_event() {
        let publisher = Publisher::default();
        let (mut one, mut two) = (publisher.subscribe(), publisher.subscribe());
        publisher.publish(&stopped("a"));
        assert_eq!(one.next().await, stopped("a"));
        assert_eq!(two.next().await, stopped("a"));
        drop(one);
        publisher.publish(&stopped("b"));
        assert_eq!(two.next().await, stopped("b"));
    }
}
