use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use serde_json::json;

use super::*;
use crate::pod::next::Stage;
use crate::pod::next::tests::{World, at, exited, running};
use crate::pod::time;

fn world() -> World {
    World::new(json!({
        "restartPolicy": "Always",
        "containers": [{ "name": "a", "image": "app" }],
    }))
}

fn is(status: &PodStatus, kind: &str) -> (String, String) {
    let found = condition(status, kind).unwrap();
    (
        found.status.clone(),
        found.reason.clone().unwrap_or_default(),
    )
}

fn text(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

fn first(status: &PodStatus) -> &ContainerStatus {
    &status.container_statuses.as_ref().unwrap()[0]
}

#[test]
fn a_pod_that_has_nothing_yet_is_pending_and_being_created() {
    let status = world().next().status;
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let waiting = first(&status)
        .state
        .as_ref()
        .unwrap()
        .waiting
        .as_ref()
        .unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("ContainerCreating"));
    assert_eq!(
        is(&status, "PodReadyToStartContainers"),
        text("False", "PodSandboxNotReady")
    );
    assert_eq!(is(&status, "Initialized"), text("True", ""));
    assert_eq!(is(&status, "Ready"), text("False", "ContainersNotReady"));
    assert_eq!(is(&status, "PodScheduled"), text("True", ""));
    assert_eq!(
        condition(&status, "Ready").unwrap().message.as_deref(),
        Some("containers with unready status: [a]")
    );
    assert_eq!(status.host_ip.as_deref(), Some("192.168.0.1"));
    assert_eq!(status.observed_generation, Some(1));
}

#[test]
fn a_running_pod_tells_its_address_and_its_containers() {
    let status = world().with([running("a")]).next().status;
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(status.pod_ip.as_deref(), Some("10.0.0.7"));
    assert_eq!(status.qos_class.as_deref(), Some("BestEffort"));
    let container = first(&status);
    assert_eq!(container.container_id.as_deref(), Some("navarch://a-0"));
    assert_eq!((container.ready, container.started), (true, Some(true)));
    assert_eq!(container.image, "docker.io/library/app:latest");
    for kind in ["Ready", "ContainersReady", "PodReadyToStartContainers"] {
        assert_eq!(is(&status, kind), text("True", ""), "{kind}");
    }
}

#[test]
fn a_restarted_container_shows_how_the_one_before_ended() {
    let mut before = exited("a", 7, 0);
    before.status.id = "old".into();
    let mut now = running("a");
    now.status.created_at = at(10);
    now.restarts = 1;
    let status = world().with([before, now]).next().status;
    let container = first(&status);
    assert_eq!(container.restart_count, 1);
    let ended = container
        .last_state
        .as_ref()
        .unwrap()
        .terminated
        .as_ref()
        .unwrap();
    assert_eq!(
        (ended.exit_code, ended.reason.as_deref()),
        (7, Some("Error"))
    );
    assert_eq!(ended.container_id.as_deref(), Some("navarch://old"));
}

#[test]
fn why_a_container_does_not_run_is_told() {
    let mut world = world();
    let waiting = Waiting {
        reason: "ErrImagePull".into(),
        message: "no".into(),
    };
    world.failures.insert("a".into(), waiting);
    let status = world.with([]).next().status;
    let waiting = first(&status)
        .state
        .as_ref()
        .unwrap()
        .waiting
        .as_ref()
        .unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("ErrImagePull"));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
}

#[test]
fn readiness_gates_count() {
    let mut world = world().with([running("a")]);
    let gate = k8s_openapi::api::core::v1::PodReadinessGate {
        condition_type: "example.com/gate".into(),
    };
    world.pod.spec.as_mut().unwrap().readiness_gates = Some(vec![gate]);
    let status = world.next().status;
    assert_eq!(
        is(&status, "Ready"),
        text("False", "ReadinessGatesNotReady")
    );
    assert_eq!(is(&status, "ContainersReady"), text("True", ""));
    let gate = PodCondition {
        type_: "example.com/gate".into(),
        status: "True".into(),
        ..Default::default()
    };
    world.pod.status.get_or_insert_default().conditions = Some(vec![gate]);
    let status = world.next().status;
    assert_eq!(is(&status, "Ready"), text("True", ""));
    assert!(condition(&status, "example.com/gate").is_some());
}

#[test]
fn a_terminal_phase_stays() {
    let mut world = world().with([running("a")]);
    world.old.phase = Some("Failed".into());
    world.old.reason = Some("Evicted".into());
    let status = world.next().status;
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(status.reason.as_deref(), Some("Evicted"));
    assert_eq!(is(&status, "Ready"), text("False", "PodFailed"));
}

#[test]
fn a_pod_that_was_ended_is_over_whatever_its_policy() {
    let mut world = world().with([exited("a", 0, 0)]);
    assert_eq!(world.next().status.phase.as_deref(), Some("Running"));
    world.stage = Stage::Terminated;
    assert_eq!(world.next().status.phase.as_deref(), Some("Succeeded"));
    let mut failed = self::world().with([exited("a", 137, 0)]);
    failed.stage = Stage::Terminated;
    assert_eq!(failed.next().status.phase.as_deref(), Some("Failed"));
}

#[test]
fn a_container_that_vanished_is_not_shown_as_one_that_never_ran() {
    let old = world().with([running("a")]).next().status;
    let mut world = world().with([]);
    world.old = old;
    let status = world.next().status;
    let last = first(&status).last_state.as_ref().unwrap();
    let ended = last.terminated.as_ref().unwrap();
    assert_eq!(ended.exit_code, 137);
    assert_eq!(ended.reason.as_deref(), Some("ContainerStatusUnknown"));
    assert_eq!(status.phase.as_deref(), Some("Running"));
}

#[test]
fn times_of_conditions_go_on_until_they_change() {
    let (then, later) = (time::object(at(0)).unwrap(), time::object(at(50)).unwrap());
    let mut world = world().with([running("a")]);
    let mut old = world.next().status;
    finish(&mut old, &PodStatus::default(), &world.pod, &then);
    assert_eq!(old.start_time, Some(then.clone()));
    world = world.health("a-0", |h| h.ready = false);
    let mut new = world.next().status;
    finish(&mut new, &old, &world.pod, &later);
    let since = |kind: &str| condition(&new, kind).unwrap().last_transition_time.clone();
    assert_eq!(since("Ready"), Some(later));
    assert_eq!(since("Initialized"), Some(then.clone()));
    assert_eq!(new.start_time, Some(then));
    assert!(!is_same(&old, &new) && is_same(&new, &new.clone()));
}

#[test]
fn a_last_status_leaves_no_container_open() {
    let world = world().with([running("a")]);
    let status = world.next().status;
    let last = finished(&status, &world.pod);
    assert_eq!(last.phase.as_deref(), Some("Failed"));
    let ended = first(&last)
        .state
        .as_ref()
        .unwrap()
        .terminated
        .as_ref()
        .unwrap();
    assert_eq!(ended.exit_code, 137);
}

fn object(status: PodStatus) -> Pod {
    Pod {
        status: Some(status),
        ..Pod::default()
    }
}

#[test]
fn a_phase_that_ends_waits_until_nothing_runs() {
    let now = time::now();
    let old = world().with([running("a")]).next().status;
    let api = object(old);
    let new = PodStatus {
        phase: Some("Failed".into()),
        reason: Some("Evicted".into()),
        ..Default::default()
    };
    let held = merged(&api, &new, true, &now);
    assert_eq!(
        (held.phase.as_deref(), held.reason),
        (Some("Running"), None)
    );
    let told = merged(&api, &new, false, &now);
    assert_eq!(told.phase.as_deref(), Some("Failed"));
    assert_eq!(told.reason.as_deref(), Some("Evicted"));
}

#[test]
fn the_patch_holds_what_changed_and_nothing_of_others() {
    let old: PodStatus = proto::typed::from_json_value(json!({
        "phase": "Pending",
        "message": "gone",
        "conditions": [
            { "type": "Other", "status": "True" },
            { "type": "Ready", "status": "False", "reason": "x" },
        ],
        "podIPs": [{ "ip": "10.0.0.1" }],
    }))
    .unwrap();
    let new: PodStatus = proto::typed::from_json_value(json!({
        "phase": "Running",
        "conditions": [
            { "type": "Other", "status": "True" },
            { "type": "Ready", "status": "True" },
        ],
        "podIPs": [{ "ip": "10.0.0.2" }],
    }))
    .unwrap();
    let patch = patch::patch("u", &old, &new).unwrap();
    assert_eq!(
        patch,
        json!({
            "metadata": { "uid": "u" },
            "status": {
                "phase": "Running",
                "message": null,
                "$setElementOrder/conditions": [{ "type": "Other" }, { "type": "Ready" }],
                "conditions": [{ "type": "Ready", "status": "True", "reason": null }],
                "$setElementOrder/podIPs": [{ "ip": "10.0.0.2" }],
                "podIPs": [{ "ip": "10.0.0.2" }, { "$patch": "delete", "ip": "10.0.0.1" }],
            },
        })
    );
    assert_eq!(patch::patch("u", &new, &new), None);
}
