use super::*;
use crate::framework::{Action, Resource};
use crate::testing::pod;
use serde_json::json;

const NODE_ADDED: Event = Event::new(Resource::Node, Action::ADD);
const POD_GONE: Event = Event::new(Resource::AssignedPod, Action::DELETE);

/// Gates pods that are named so, sorts by priority, and lets new nodes help.
struct Fake;

impl Plugins for Fake {
    fn gate(&self, pod: &PodInfo) -> Option<&'static str> {
        pod.spec().scheduling_gates.as_ref().map(|_| "Gates")
    }

    fn sort_key(&self, queued: &Queued) -> SortKey {
        SortKey {
            rank: -i64::from(queued.pod.priority),
            since: queued.since,
        }
    }

    fn interested(&self, event: Event) -> bool {
        event == NODE_ADDED || event == POD_GONE
    }

    fn cares(&self, _plugin: &str, _pod: &PodInfo, event: Event) -> bool {
        event == POD_GONE || event.resource == Resource::TargetPod
    }

    fn helps(&self, plugin: &str, _pod: &PodInfo, event: Event, _change: &Change) -> bool {
        (plugin == "Fit" && event == NODE_ADDED)
            || plugin == "Waits"
            || (plugin == "Gates" && event.resource == Resource::TargetPod)
    }
}

fn queue() -> (Queue, Instant) {
    let now = Instant::now();
    (Queue::new(Settings::default(), now), now)
}

fn named(name: &str, priority: i32) -> Arc<PodInfo> {
    pod(name, json!({ "priority": priority }))
}

fn rejected(mut queued: Queued, by: &'static str) -> Queued {
    queued.rejected_by = vec![by];
    queued
}

fn popped(queue: &mut Queue, now: Instant) -> Option<String> {
    queue.pop(now).map(|q| q.pod.key.name().to_owned())
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn important_pods_come_first_and_then_those_that_came_first() {
    let (mut queue, now) = queue();
    for (i, (name, priority)) in [("a", 0), ("b", 5), ("c", 5)].into_iter().enumerate() {
        queue.add(
            named(name, priority),
            &Fake,
            now + SECOND * u32::try_from(i).unwrap(),
        );
    }
    let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue, now)).collect();
    assert_eq!(order, ["b", "c", "a"]);
}

#[tokio::test(start_paused = true)]
async fn an_unschedulable_pod_waits_for_an_event_that_may_help_it_and_then_backs_off() {
    let (mut queue, now) = queue();
    queue.add(named("p", 0), &Fake, now);
    let first = queue.pop(now).unwrap();
    queue.come_back(rejected(first, "Fit"), &Fake, now);
    assert_eq!(queue.lengths(), [0, 0, 1, 0]);
    queue.happened(POD_GONE, &Change::Other, |_| true, &Fake, now);
    assert_eq!(queue.lengths(), [0, 0, 1, 0], "the event does not help");
    queue.happened(NODE_ADDED, &Change::Other, |_| true, &Fake, now);
    assert_eq!(queue.lengths(), [0, 1, 0, 0]);
    queue.flush(&Fake, now + SECOND);
    assert_eq!(queue.lengths(), [0, 1, 0, 0]);
    queue.flush(&Fake, now + 2 * SECOND);
    assert_eq!(queue.lengths(), [1, 0, 0, 0]);
    let again = queue.pop(now + 2 * SECOND).unwrap();
    assert_eq!(again.attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn back_off_is_not_waited_for_when_there_is_nothing_else_to_do_but_errors_are() {
    let (mut queue, now) = queue();
    for (name, by) in [("p", Some("Fit")), ("failed", None)] {
        queue.add(named(name, 0), &Fake, now);
        let taken = queue.pop(now).unwrap();
        let back = match by {
            Some(by) => rejected(taken, by),
            None => taken,
        };
        queue.come_back(back, &Fake, now);
    }
    queue.happened(NODE_ADDED, &Change::Other, |_| true, &Fake, now);
    assert_eq!(queue.lengths(), [0, 2, 0, 0]);
    assert_eq!(popped(&mut queue, now).as_deref(), Some("p"));
    assert_eq!(popped(&mut queue, now), None);
}

#[tokio::test(start_paused = true)]
async fn back_off_doubles_up_to_the_longest() {
    let (mut queue, now) = queue();
    queue.add(named("p", 0), &Fake, now);
    let mut waits = Vec::new();
    let mut at = now;
    for _ in 0..6 {
        let taken = queue.pop(at).unwrap();
        queue.come_back(taken, &Fake, at);
        let due = queue.next_flush().unwrap();
        waits.push((due - at).as_secs());
        at = due;
        queue.flush(&Fake, at);
    }
    assert_eq!(waits, [2, 3, 5, 9, 11, 11], "one second is the window");
}

#[tokio::test(start_paused = true)]
async fn an_event_during_the_attempt_is_not_missed() {
    let (mut queue, now) = queue();
    queue.add(named("p", 0), &Fake, now);
    queue.add(named("q", 0), &Fake, now);
    let p = queue.pop(now).unwrap();
    queue.happened(NODE_ADDED, &Change::Other, |_| true, &Fake, now);
    let q = queue.pop(now).unwrap();
    queue.come_back(rejected(p, "Fit"), &Fake, now);
    queue.come_back(rejected(q, "Fit"), &Fake, now);
    assert_eq!(queue.lengths(), [0, 1, 1, 0], "q was taken after the event");
    assert!(queue.events.is_empty(), "nothing is in flight");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_for_somebody_comes_back_at_once() {
    let (mut queue, now) = queue();
    queue.add(named("p", 0), &Fake, now);
    let mut p = queue.pop(now).unwrap();
    p.rejected_by = vec!["Waits"];
    p.pending = vec!["Waits"];
    queue.come_back(p, &Fake, now);
    queue.happened(NODE_ADDED, &Change::Other, |_| true, &Fake, now);
    assert_eq!(queue.lengths(), [1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_gated_pod_is_tried_once_its_gates_are_gone() {
    let (mut queue, now) = queue();
    let gated = pod("p", json!({ "schedulingGates": [{ "name": "g" }] }));
    queue.add(Arc::clone(&gated), &Fake, now);
    assert_eq!(queue.lengths(), [0, 0, 0, 1]);
    assert!(queue.pop(now).is_none());
    queue.happened(NODE_ADDED, &Change::Other, |_| true, &Fake, now);
    assert_eq!(queue.lengths(), [0, 0, 0, 1]);
    queue.update(&gated, &pod("p", json!({})), &Fake, now);
    assert_eq!(queue.lengths(), [1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_without_an_event_is_tried_again_after_five_minutes() {
    let (mut queue, now) = queue();
    queue.add(named("p", 0), &Fake, now);
    let p = queue.pop(now).unwrap();
    queue.come_back(rejected(p, "Other"), &Fake, now);
    queue.flush(&Fake, now + Duration::from_secs(300));
    assert_eq!(queue.lengths(), [0, 0, 1, 0]);
    queue.flush(&Fake, now + Duration::from_secs(301));
    assert_eq!(queue.lengths(), [1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_deleted_meanwhile_does_not_come_back_twice() {
    let (mut queue, now) = queue();
    queue.add(named("p", 0), &Fake, now);
    let p = queue.pop(now).unwrap();
    queue.delete("uid-p");
    queue.add(named("p", 0), &Fake, now);
    queue.come_back(p, &Fake, now);
    assert_eq!(queue.lengths(), [1, 0, 0, 0]);
}
