use super::*;
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

fn set(replicas: i32, partition: i32, policy: &str) -> StatefulSet {
    let claim = PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            ..ObjectMeta::default()
        },
        ..PersistentVolumeClaim::default()
    };
    StatefulSet {
        metadata: ObjectMeta {
            name: Some("db".to_owned()),
            ..ObjectMeta::default()
        },
        spec: StatefulSetSpec {
            replicas: Some(replicas),
            pod_management_policy: Some(policy.to_owned()),
            volume_claim_templates: Some(vec![claim]),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy {
                    partition: Some(partition),
                    max_unavailable: None,
                }),
            }),
            ..StatefulSetSpec::default()
        },
        status: None,
    }
}

fn pod(number: i32, revision: &str, ready: bool) -> Arc<Pod> {
    let mut pod = Pod::default();
    pod.metadata.name = Some(format!("db-{number}"));
    pod.metadata.labels = Some([(history::HASH_LABEL.to_owned(), revision.to_owned())].into());
    pod.status = Some(PodStatus {
        phase: Some("Running".to_owned()),
        conditions: Some(vec![PodCondition {
            type_: "Ready".to_owned(),
            status: if ready { "True" } else { "False" }.to_owned(),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    });
    Arc::new(pod)
}

fn going(pod: &Arc<Pod>) -> Arc<Pod> {
    let mut pod = (**pod).clone();
    pod.metadata.deletion_timestamp = Some(Time(component::clock::now()));
    Arc::new(pod)
}

fn revision_named(name: &str) -> ControllerRevision {
    let mut revision = ControllerRevision::default();
    revision.metadata.name = Some(name.to_owned());
    revision
}

fn seen<T>(set: &StatefulSet, pods: &[Arc<Pod>], with: impl FnOnce(&Seen<'_>) -> T) -> T {
    let (old, new) = (revision_named("old"), revision_named("new"));
    let template = PodTemplateSpec::default();
    with(&Seen {
        set,
        pods,
        current: (&old, &template),
        update: (&new, &template),
        now: Timestamp::from_second(1_000_000).unwrap(),
    })
}

fn told(set: &StatefulSet, pods: &[Arc<Pod>]) -> Vec<String> {
    let tell = |step: &Step| match step {
        Step::Create(number, pod) => format!("create {number} {}", revision(pod)),
        Step::Delete(pod) => format!("delete {}", pod.metadata.name.as_deref().unwrap()),
        Step::Claims(number) => format!("claims {number}"),
    };
    seen(set, pods, |s| steps(s).iter().map(tell).collect())
}

#[test]
fn pods_come_in_order_each_when_the_one_before_is_ready() {
    let set = set(3, 0, "OrderedReady");
    assert_eq!(told(&set, &[]), ["create 0 new"]);
    assert!(told(&set, &[pod(0, "new", false)]).is_empty());
    assert_eq!(told(&set, &[pod(0, "new", true)]), ["create 1 new"]);
}

#[test]
fn parallel_pods_come_at_once() {
    let set = set(2, 0, "Parallel");
    assert_eq!(told(&set, &[]), ["create 0 new", "create 1 new"]);
}

#[test]
fn the_highest_goes_first_when_there_are_too_many() {
    let set = set(1, 0, "OrderedReady");
    let pods = [
        pod(0, "new", true),
        pod(1, "new", true),
        pod(2, "new", true),
    ];
    assert_eq!(told(&set, &pods), ["delete db-2"]);
    let pods = [pods[0].clone(), pods[1].clone(), going(&pods[2])];
    assert!(told(&set, &pods).is_empty(), "one after the other");
}

#[test]
fn an_update_goes_down_to_the_partition() {
    let set = set(3, 1, "OrderedReady");
    let pods = |a, b, c| [pod(0, a, true), pod(1, b, true), pod(2, c, true)];
    assert_eq!(told(&set, &pods("old", "old", "old")), ["delete db-2"]);
    assert_eq!(told(&set, &pods("old", "old", "new")), ["delete db-1"]);
    assert!(told(&set, &pods("old", "new", "new")).is_empty());
    let missing = [pod(1, "new", true), pod(2, "new", true)];
    assert_eq!(
        told(&set, &missing),
        ["create 0 old"],
        "below the partition"
    );
}

#[test]
fn an_update_waits_for_the_pod_that_it_replaced() {
    let set = set(2, 0, "OrderedReady");
    assert!(told(&set, &[pod(0, "old", true), pod(1, "new", false)]).is_empty());
}

#[test]
fn a_pod_has_its_number_its_name_and_its_claim() {
    let set = set(1, 0, "OrderedReady");
    let step = seen(&set, &[], |s| steps(s).remove(0));
    let Step::Create(0, pod) = step else {
        panic!("{step:?}");
    };
    let spec = pod.spec.unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("db-0"));
    let volume = &spec.volumes.unwrap()[0];
    let claim = volume.persistent_volume_claim.as_ref().unwrap();
    assert_eq!(claim.claim_name, "data-db-0");
    assert_eq!(
        pod.metadata.labels.unwrap()["apps.kubernetes.io/pod-index"],
        "0"
    );
}

#[test]
fn the_status_completes_a_rollout() {
    let set = set(2, 0, "OrderedReady");
    let half = [pod(0, "old", true), pod(1, "new", true)];
    let status = seen(&set, &half, status);
    assert_eq!(status.current_revision.as_deref(), Some("old"));
    assert_eq!(
        (status.current_replicas, status.updated_replicas),
        (Some(1), Some(1))
    );
    let all = [pod(0, "new", true), pod(1, "new", true)];
    let status = seen(&set, &all, super::status);
    assert_eq!(status.current_revision.as_deref(), Some("new"));
    assert_eq!(status.current_replicas, Some(2));
}
