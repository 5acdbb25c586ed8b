use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use super::*;
use crate::make::labels;
use crate::pod::crash::CrashLoops;
use crate::pod::seen::{self, Seen};
use crate::runtime::container::{ContainerMetadata, reason};
use crate::runtime::sandbox::PodSandboxMetadata;
use crate::runtime::{
    ContainerState, ContainerStatus, PodSandboxConfig, PodSandboxState, PodSandboxStatus, Signal,
};

pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

fn status(name: &str, state: ContainerState, age: u64) -> ContainerStatus {
    let container = Container {
        name: name.into(),
        image: Some("app".into()),
        ..Default::default()
    };
    ContainerStatus {
        id: format!("{name}-{age}"),
        sandbox: "sandbox-0".into(),
        state,
        created_at: at(age),
        started_at: (state != ContainerState::Created).then(|| at(age)),
        finished_at: (state == ContainerState::Exited).then(|| at(age + 1)),
        exit_code: 0,
        signal: None,
        reason: "",
        message: String::new(),
        metadata: ContainerMetadata {
            name: name.into(),
            attempt: 0,
        },
        image: "docker.io/library/app:latest".into(),
        image_ref: "docker.io/library/app@sha256:1".into(),
        labels: labels::of_container(&Pod::default(), &container),
        annotations: labels::annotations(&Pod::default(), &container, 0),
        mounts: Vec::new(),
        log_path: None,
        resources: Default::default(),
        user: Default::default(),
        stop_signal: Signal::TERM,
        tty: false,
        stdin: false,
        pid: None,
    }
}

pub(crate) fn running(name: &str) -> seen::Container {
    seen::Container::new(status(name, ContainerState::Running, 0), "")
}

pub(crate) fn exited(name: &str, code: i32, age: u64) -> seen::Container {
    let mut status = status(name, ContainerState::Exited, age);
    status.exit_code = code;
    status.reason = if code == 0 {
        reason::COMPLETED
    } else {
        reason::ERROR
    };
    seen::Container::new(status, "")
}

pub(crate) fn sandbox(attempt: u32, state: PodSandboxState) -> PodSandboxStatus {
    PodSandboxStatus {
        id: format!("sandbox-{attempt}"),
        state,
        created_at: at(0),
        config: PodSandboxConfig {
            metadata: PodSandboxMetadata {
                attempt,
                ..Default::default()
            },
            ips: vec!["10.0.0.7".parse().unwrap()],
            ..Default::default()
        },
    }
}

/// Everything that a decision depends on.
pub(crate) struct World {
    pub(crate) pod: Pod,
    pub(crate) stage: Stage,
    pub(crate) seen: Seen,
    pub(crate) old: PodStatus,
    pub(crate) health: BTreeMap<String, Health>,
    pub(crate) failures: BTreeMap<String, Waiting>,
    pub(crate) crashes: CrashLoops,
    pub(crate) wanted: BTreeMap<String, Resources>,
    pub(crate) evict: Option<Evict>,
    pub(crate) now: SystemTime,
}

impl World {
    pub(crate) fn new(spec: Value) -> Self {
        let pod = json!({
            "metadata": { "name": "pod", "namespace": "ns", "uid": "u", "generation": 1 },
            "spec": spec,
        });
        Self {
            pod: proto::typed::from_json_value(pod).unwrap(),
            stage: Stage::Running,
            seen: Seen::default(),
            old: PodStatus::default(),
            health: BTreeMap::new(),
            failures: BTreeMap::new(),
            crashes: CrashLoops::default(),
            wanted: BTreeMap::new(),
            evict: None,
            now: at(100),
        }
    }

    /// With a sandbox and these containers in it.
    pub(crate) fn with(mut self, containers: impl IntoIterator<Item = seen::Container>) -> Self {
        self.seen.sandboxes = vec![sandbox(0, PodSandboxState::Ready)];
        self.seen.containers = containers.into_iter().collect();
        self.seen
            .containers
            .sort_by_key(|c| std::cmp::Reverse(c.status.created_at));
        self
    }

    pub(crate) fn health(mut self, id: &str, change: impl Fn(&mut Health)) -> Self {
        let mut health = Health {
            started: true,
            ready: true,
            liveness_failed: false,
            startup_failed: false,
        };
        change(&mut health);
        self.health.insert(id.into(), health);
        self
    }

    pub(crate) fn next(&self) -> Next {
        next(&Ask {
            pod: &self.pod,
            stage: self.stage,
            seen: &self.seen,
            old: &self.old,
            health: &self.health,
            failures: &self.failures,
            crashes: &self.crashes,
            wanted: &self.wanted,
            evict: self.evict.as_ref(),
            host_ips: &["192.168.0.1".parse().unwrap()],
            now: self.now,
            runtime: "navarch",
        })
    }

    fn sync(&self) -> Sync {
        match self.next().todo {
            Todo::Sync(sync) => sync,
            Todo::Nothing => Sync::default(),
            other => panic!("{other:?}"),
        }
    }

    fn starts(&self) -> Vec<String> {
        self.sync()
            .start
            .into_iter()
            .map(|(_, name)| name)
            .collect()
    }

    fn kills(&self) -> Vec<(String, Why)> {
        let kills = self.sync().kill.into_iter();
        kills.map(|kill| (kill.name, kill.why)).collect()
    }
}

fn named(name: &str) -> Value {
    json!({ "name": name, "image": "app" })
}

fn sidecar(name: &str) -> Value {
    json!({ "name": name, "image": "app", "restartPolicy": "Always" })
}

fn plain(policy: &str) -> Value {
    json!({ "restartPolicy": policy, "containers": [named("a"), named("b")] })
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_containers_in_order() {
    let sync = World::new(plain("Always")).sync();
    let start = ["a", "b"].map(|name| (Kind::Main, name.to_owned()));
    assert_eq!(
        sync,
        Sync {
            sandbox: Some(0),
            start: start.into(),
            ..Sync::default()
        }
    );
}

#[test]
fn nothing_is_done_while_all_runs() {
    let world = World::new(plain("Always")).with([running("a"), running("b")]);
    let next = world.next();
    assert_eq!((next.todo, next.again), (Todo::Nothing, None));
}

#[test]
fn what_ended_is_started_again_as_the_policy_says() {
    for (policy, code, starts) in [
        ("Always", 0, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 1, false),
    ] {
        let world = World::new(plain(policy)).with([running("a"), exited("b", code, 0)]);
        assert_eq!(
            world.starts().contains(&"b".to_owned()),
            starts,
            "{policy} {code}"
        );
    }
}

#[test]
fn a_pod_whose_containers_are_done_is_terminated() {
    let done = [exited("a", 0, 0), exited("b", 0, 0)];
    let next = World::new(plain("Never")).with(done).next();
    assert_eq!(next.todo, Todo::Terminate);
    assert_eq!(next.status.phase.as_deref(), Some("Succeeded"));
    let failed = [exited("a", 0, 0), exited("b", 3, 0)];
    let next = World::new(plain("Never")).with(failed).next();
    assert_eq!(next.todo, Todo::Terminate);
    assert_eq!(next.status.phase.as_deref(), Some("Failed"));
}

#[test]
fn a_crash_loop_waits_and_says_so() {
    let mut world = World::new(plain("Always")).with([running("a"), exited("b", 1, 98)]);
    let container = spec::of(&world.pod).containers[1].clone();
    world.crashes.restarted(&container, at(90), at(90));
    let next = world.next();
    assert_eq!((next.todo, next.again), (Todo::Nothing, Some(at(109))));
    assert_eq!(next.backing_off, ["b"]);
    let status = next.status.container_statuses.unwrap();
    let waiting = status[1].state.as_ref().unwrap().waiting.as_ref().unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    assert_eq!(
        waiting.message.as_deref(),
        Some("back-off 10s restarting failed container=b pod=pod_ns(u)")
    );
    let ended = status[1]
        .last_state
        .as_ref()
        .unwrap()
        .terminated
        .as_ref()
        .unwrap();
    assert_eq!(ended.exit_code, 1);
    assert_eq!(next.status.phase.as_deref(), Some("Running"));
    world.now = at(109);
    assert_eq!(world.starts(), ["b"]);
}

#[test]
fn failed_probes_kill_and_restart() {
    let both = || [running("a"), running("b")];
    let world = World::new(plain("Always"))
        .with(both())
        .health("a-0", |h| h.liveness_failed = true);
    assert_eq!(world.kills(), [("a".into(), Why::Liveness)]);
    assert_eq!(world.starts(), ["a"]);
    let message = &world.sync().kill[0].message;
    assert_eq!(
        message,
        "Container a failed liveness probe, will be restarted"
    );
    let world = World::new(plain("Never"))
        .with(both())
        .health("a-0", |h| h.startup_failed = true);
    assert_eq!(world.kills(), [("a".into(), Why::Startup)]);
    assert!(world.starts().is_empty());
}

#[test]
fn another_image_makes_another_container_whatever_the_policy() {
    let mut world = World::new(plain("Never")).with([running("a"), running("b")]);
    world.pod.spec.as_mut().unwrap().containers[0].image = Some("app:2".into());
    assert_eq!(world.kills(), [("a".into(), Why::Other)]);
    assert_eq!(world.starts(), ["a"]);
}

#[test]
fn a_dead_sandbox_is_replaced_and_all_starts_anew() {
    let mut world = World::new(plain("Always")).with([exited("a", 137, 0), exited("b", 137, 0)]);
    world.seen.sandboxes = vec![sandbox(0, PodSandboxState::NotReady)];
    let sync = world.sync();
    assert_eq!((sync.sandbox, sync.kill_pod), (Some(1), false));
    assert_eq!(world.starts(), ["a", "b"]);
    // One that is to run once is not run twice.
    world.pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    let next = world.next();
    assert_eq!(next.todo, Todo::Terminate);
}

#[test]
fn a_sandbox_without_an_address_is_replaced() {
    let mut world = World::new(plain("Always")).with([running("a"), running("b")]);
    world.seen.sandboxes[0].config.ips.clear();
    let sync = world.sync();
    assert_eq!((sync.sandbox, sync.kill_pod), (Some(1), true));
}

fn with_init(init: Value) -> Value {
    json!({ "restartPolicy": "Always", "initContainers": init, "containers": [named("main")] })
}

#[test]
fn init_containers_run_one_after_the_other() {
    let spec = || with_init(json!([named("one"), named("two")]));
    assert_eq!(World::new(spec()).starts(), ["one"]);
    assert_eq!(World::new(spec()).with([]).starts(), ["one"]);
    assert!(
        World::new(spec())
            .with([running("one")])
            .starts()
            .is_empty()
    );
    let first = || exited("one", 0, 0);
    assert_eq!(World::new(spec()).with([first()]).starts(), ["two"]);
    let done = [first(), exited("two", 0, 5)];
    assert_eq!(World::new(spec()).with(done).starts(), ["main"]);
    // What ran later proves what is forgotten.
    let later = [exited("two", 0, 5)];
    assert_eq!(World::new(spec()).with(later).starts(), ["main"]);
    assert!(
        World::new(spec())
            .with([running("main")])
            .starts()
            .is_empty()
    );
}

#[test]
fn an_init_container_that_fails_is_run_again_or_ends_the_pod() {
    let mut world = World::new(with_init(json!([named("one")]))).with([exited("one", 1, 0)]);
    assert_eq!(world.starts(), ["one"]);
    world.pod.spec.as_mut().unwrap().restart_policy = Some("Never".into());
    let next = world.next();
    assert_eq!(next.todo, Todo::Terminate);
    assert_eq!(next.status.phase.as_deref(), Some("Failed"));
}

#[test]
fn sidecars_start_in_order_with_the_init_containers_and_stay() {
    let spec = || with_init(json!([sidecar("side"), named("init")]));
    assert_eq!(World::new(spec()).with([]).starts(), ["side"]);
    assert_eq!(
        World::new(spec()).with([running("side")]).starts(),
        ["init"]
    );
    let done = || [running("side"), exited("init", 0, 5)];
    assert_eq!(World::new(spec()).with(done()).starts(), ["main"]);
    let all = [exited("side", 1, 0), exited("init", 0, 5), running("main")];
    assert_eq!(World::new(spec()).with(all).starts(), ["side"]);
}

#[test]
fn a_sidecar_with_a_startup_probe_holds_the_next_until_it_has_started() {
    let mut side = sidecar("side");
    side["startupProbe"] = json!({ "exec": { "command": ["x"] } });
    let spec = || with_init(json!([side.clone(), named("init")]));
    let waits = World::new(spec())
        .with([running("side")])
        .health("side-0", |h| h.started = false);
    assert!(waits.starts().is_empty());
    let goes = World::new(spec())
        .with([running("side")])
        .health("side-0", |_| {});
    assert_eq!(goes.starts(), ["init"]);
    let failed = World::new(spec())
        .with([running("side")])
        .health("side-0", |h| {
            (h.started, h.startup_failed) = (false, true);
        });
    assert_eq!(failed.kills(), [("side".into(), Why::Startup)]);
    assert_eq!(failed.starts(), ["side"]);
}

#[test]
fn sidecars_do_not_keep_a_finished_pod() {
    let mut spec = with_init(json!([sidecar("side")]));
    spec["restartPolicy"] = "Never".into();
    let world = World::new(spec).with([running("side"), exited("main", 0, 5)]);
    let sync = world.sync();
    assert!(sync.kill_pod && sync.start.is_empty(), "{sync:?}");
}

#[test]
fn ephemeral_containers_start_once_even_before_the_pod_is_initialized() {
    let mut spec = with_init(json!([named("init")]));
    spec["ephemeralContainers"] = json!([named("debug")]);
    let world = World::new(spec.clone()).with([running("init")]);
    assert_eq!(world.starts(), ["debug"]);
    let world = World::new(spec).with([running("init"), exited("debug", 1, 5)]);
    assert!(world.starts().is_empty());
}

#[test]
fn a_rule_restarts_all_containers() {
    let rule = json!([{
        "action": "RestartAllContainers",
        "exitCodes": { "operator": "In", "values": [42] },
    }]);
    let spec = json!({
        "restartPolicy": "Never",
        "containers": [
            { "name": "a", "image": "app", "restartPolicy": "Never", "restartPolicyRules": rule },
            named("b"),
        ],
    });
    let world = World::new(spec.clone()).with([exited("a", 42, 0), running("b")]);
    let reset = world.sync().reset;
    assert_eq!(reset, [("b-0".to_owned(), true), ("a-0".to_owned(), false)]);
    let condition = |next: &Next| {
        let found = status::condition(&next.status, restart::ALL_RESTARTING);
        found.unwrap().status.clone()
    };
    assert_eq!(condition(&world.next()), "True");
    // Once they are gone, they start anew.
    let mut gone = World::new(spec).with([]);
    gone.old = world.next().status;
    assert_eq!(gone.starts(), ["a", "b"]);
    assert_eq!(condition(&gone.next()), "False");
}

#[test]
fn the_deadline_ends_the_pod() {
    let mut spec = plain("Always");
    spec["activeDeadlineSeconds"] = 30.into();
    let mut world = World::new(spec).with([running("a"), running("b")]);
    world.old.start_time = crate::pod::time::object(at(80));
    let next = world.next();
    assert_eq!((next.todo, next.again), (Todo::Nothing, Some(at(110))));
    world.now = at(110);
    let next = world.next();
    assert_eq!(next.todo, Todo::Terminate);
    assert_eq!(next.status.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(next.status.phase.as_deref(), Some("Failed"));
}

#[test]
fn the_end_has_its_stages() {
    let mut world = World::new(plain("Always")).with([running("a"), running("b")]);
    for (stage, todo) in [
        (Stage::Terminating, Todo::Stop),
        (Stage::Terminated, Todo::CleanUp),
        (Stage::Finished, Todo::Nothing),
    ] {
        world.stage = stage;
        assert_eq!(world.next().todo, todo);
    }
}

#[test]
fn a_deleted_pod_starts_nothing() {
    let mut world = World::new(plain("Always")).with([running("a"), exited("b", 1, 0)]);
    world.pod.metadata.deletion_timestamp = Some(crate::pod::time::now());
    assert!(world.starts().is_empty());
}

#[test]
fn resources_change_in_place_or_with_a_restart_as_the_container_says() {
    let mut world = World::new(plain("Never")).with([running("a"), running("b")]);
    let wanted = Resources {
        cpu_shares: Some(512),
        ..Resources::default()
    };
    world.wanted.insert("a".into(), wanted.clone());
    let sync = world.sync();
    assert_eq!(sync.resize, [("a-0".to_owned(), wanted)]);
    assert!(sync.kill.is_empty() && sync.start.is_empty());
    let policy = k8s_openapi::api::core::v1::ContainerResizePolicy {
        resource_name: "cpu".into(),
        restart_policy: "RestartContainer".into(),
    };
    world.pod.spec.as_mut().unwrap().containers[0].resize_policy = Some(vec![policy]);
    let sync = world.sync();
    assert!(sync.resize.is_empty() && sync.kill.len() == 1);
    assert_eq!(world.starts(), ["a"]);
}
