use super::*;
use crate::deployment::strategy;
use k8s_openapi::api::apps::v1::{
    DeploymentCondition, DeploymentSpec, DeploymentStrategy, ReplicaSetStatus,
    RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

fn template(image: &str) -> PodTemplateSpec {
    PodTemplateSpec {
        metadata: None,
        spec: Some(PodSpec {
            containers: vec![Container {
                name: "c".to_owned(),
                image: Some(image.to_owned()),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
    }
}

fn deployment(replicas: i32, image: &str) -> Deployment {
    Deployment {
        metadata: ObjectMeta {
            name: Some("web".to_owned()),
            namespace: Some("ns".to_owned()),
            uid: Some("d".to_owned()),
            generation: Some(3),
            ..ObjectMeta::default()
        },
        spec: DeploymentSpec {
            replicas: Some(replicas),
            template: template(image),
            progress_deadline_seconds: Some(600),
            revision_history_limit: Some(10),
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::String("25%".to_owned())),
                    max_unavailable: Some(IntOrString::String("25%".to_owned())),
                }),
            }),
            ..DeploymentSpec::default()
        },
        status: None,
    }
}

fn recreate(mut deployment: Deployment) -> Deployment {
    deployment.spec.strategy = Some(DeploymentStrategy {
        type_: Some("Recreate".to_owned()),
        rolling_update: None,
    });
    deployment
}

/// A replica set with the given revision, wanted and available replicas, as large as `desired` when it was told.
fn set(image: &str, revision: i64, wanted: i32, available: i32, desired: i32) -> ReplicaSet {
    let d = deployment(desired, image);
    let annotations = [(set::REVISION.to_owned(), revision.to_string())].into();
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("web-{image}")),
            uid: Some(format!("uid-{image}")),
            generation: Some(1),
            creation_timestamp: Some(Time(Timestamp::from_second(1000 + revision).unwrap())),
            annotations: Some(set::size_annotations(&d, &annotations)),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(wanted),
            template: Some(template(image)),
            ..ReplicaSetSpec::default()
        },
        status: Some(ReplicaSetStatus {
            replicas: wanted,
            available_replicas: Some(available),
            ready_replicas: Some(available),
            observed_generation: Some(1),
            ..ReplicaSetStatus::default()
        }),
    }
}

fn made(deployment: &Deployment, sets: &[ReplicaSet]) -> Plan {
    made_with(deployment, sets, false)
}

fn made_with(deployment: &Deployment, sets: &[ReplicaSet], has_pods: bool) -> Plan {
    plan(&Seen {
        deployment,
        sets: sets.iter().cloned().map(Arc::new).collect(),
        has_pods: &|_| has_pods,
        reports_terminating: true,
        now: now(),
    })
}

fn sizes(plan: &Plan) -> Vec<(&str, i32)> {
    let mut sizes: Vec<_> = plan
        .updates
        .iter()
        .map(|u| (set::name(&u.set), u.replicas))
        .collect();
    sizes.sort_unstable();
    sizes
}

fn progressing(plan: &Plan) -> &DeploymentCondition {
    conditions::get(&plan.status, PROGRESSING).unwrap()
}

#[test]
fn a_new_deployment_creates_its_replica_set() {
    let d = deployment(3, "v1");
    let plan = made(&d, &[]);
    let created = plan.create.as_ref().unwrap();
    assert_eq!(created.spec.replicas, Some(3));
    let hash = &created.metadata.labels.as_ref().unwrap()[set::HASH_LABEL];
    assert_eq!(created.metadata.name, Some(format!("web-{hash}")));
    assert_eq!(
        created.spec.selector.match_labels.as_ref().unwrap()[set::HASH_LABEL],
        *hash
    );
    let annotations = created.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations[set::REVISION], "1");
    assert_eq!(annotations[set::DESIRED_REPLICAS], "3");
    assert_eq!(annotations[set::MAX_REPLICAS], "4");
    let condition = progressing(&plan);
    assert_eq!(condition.reason.as_deref(), Some(conditions::CREATED));
}

#[test]
fn a_rollout_surges_first_and_then_takes_away_what_the_new_pods_allow() {
    let d = deployment(4, "v2");
    let plan = made(&d, &[set("v1", 1, 4, 4, 4)]);
    let created = plan.create.as_ref().unwrap();
    assert_eq!(created.spec.replicas, Some(1), "25% of 4");
    // One old pod may go at once: 25% may be unavailable.
    let plan = made(&d, &[set("v1", 1, 4, 4, 4), set("v2", 2, 1, 0, 4)]);
    assert_eq!(sizes(&plan), [("web-v1", 3)]);
    let plan = made(&d, &[set("v1", 1, 3, 3, 4), set("v2", 2, 1, 0, 4)]);
    assert_eq!(sizes(&plan), [("web-v2", 2)]);
    let plan = made(&d, &[set("v1", 1, 3, 3, 4), set("v2", 2, 2, 2, 4)]);
    assert_eq!(sizes(&plan), [("web-v1", 1)]);
}

#[test]
fn unhealthy_old_pods_go_first() {
    let d = deployment(4, "v3");
    let sets = [
        set("v1", 1, 2, 2, 4),
        set("v2", 2, 2, 0, 4),
        set("v3", 3, 1, 1, 4),
    ];
    // 3 have to be available, and 3 are: only what is not available may go.
    assert_eq!(sizes(&made(&d, &sets)), [("web-v2", 0)]);
}

#[test]
fn a_recreation_waits_for_the_last_old_pod() {
    let d = recreate(deployment(2, "v2"));
    let plan = made(&d, &[set("v1", 1, 2, 2, 2)]);
    assert_eq!(sizes(&plan), [("web-v1", 0)]);
    assert_eq!(plan.create, None);
    let gone = [set("v1", 1, 0, 0, 2)];
    let plan = made_with(&d, &gone, true);
    assert_eq!((plan.create, plan.updates.len()), (None, 0));
    let plan = made_with(&d, &gone, false);
    assert_eq!(plan.create.unwrap().spec.replicas, Some(2));
}

#[test]
fn scaling_goes_to_the_only_active_set() {
    let d = deployment(10, "v1");
    let plan = made(&d, &[set("v1", 1, 4, 4, 4)]);
    assert_eq!(sizes(&plan), [("web-v1", 10)]);
    let annotations = &plan.updates[0].annotations;
    assert_eq!(annotations[set::DESIRED_REPLICAS], "10");
    assert_eq!(annotations[set::MAX_REPLICAS], "13");
}

#[test]
fn scaling_amid_a_rollout_keeps_proportions() {
    let d = deployment(20, "v2");
    let plan = made(&d, &[set("v1", 1, 8, 8, 10), set("v2", 2, 5, 0, 10)]);
    // 25 allowed, 13 there: 12 more, 8/13 and 5/13 of them.
    assert_eq!(sizes(&plan), [("web-v1", 15), ("web-v2", 10)]);
}

#[test]
fn scaling_to_zero_empties_all_sets() {
    let d = deployment(0, "v2");
    let plan = made(&d, &[set("v1", 1, 8, 8, 10), set("v2", 2, 5, 0, 10)]);
    assert_eq!(sizes(&plan), [("web-v1", 0), ("web-v2", 0)]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll_out() {
    let mut d = deployment(3, "v2");
    d.spec.paused = Some(true);
    let plan = made(&d, &[set("v1", 1, 3, 3, 3)]);
    assert_eq!((plan.create.as_ref(), plan.updates.len()), (None, 0));
    assert_eq!(
        progressing(&plan).reason.as_deref(),
        Some(conditions::PAUSED)
    );
    assert_eq!(progressing(&plan).status.as_deref(), Some("Unknown"));
    d.spec.replicas = Some(5);
    let plan = made(&d, &[set("v1", 1, 3, 3, 3)]);
    assert_eq!(sizes(&plan), [("web-v1", 5)]);
    // Resumed, it says so, so that the deadline begins anew.
    d.status = Some(plan.status);
    d.spec.paused = Some(false);
    let plan = made(&d, &[set("v1", 1, 5, 5, 5)]);
    assert_eq!(
        progressing(&plan).reason.as_deref(),
        Some(conditions::CREATED)
    );
}

#[test]
fn an_old_set_that_comes_back_gets_a_new_revision_and_keeps_its_history() {
    let d = deployment(3, "v1");
    let plan = made(&d, &[set("v1", 1, 0, 0, 3), set("v2", 2, 3, 3, 3)]);
    let update = plan
        .updates
        .iter()
        .find(|u| set::name(&u.set) == "web-v1")
        .unwrap();
    assert_eq!(update.annotations[set::REVISION], "3");
    assert_eq!(update.annotations[set::REVISION_HISTORY], "1");
    assert_eq!(plan.revision.as_deref(), Some("3"));
    assert_eq!(update.replicas, 1);
}

#[test]
fn a_history_forgets_its_oldest_when_it_is_too_long() {
    let mut d = deployment(1, "v1");
    d.metadata.annotations = None;
    let long = vec!["12345"; 333].join(",");
    let before: Annotations = [
        (set::REVISION.to_owned(), "777777".to_owned()),
        (set::REVISION_HISTORY.to_owned(), long),
    ]
    .into();
    let after = set::newest_annotations(&d, &before, 777_778);
    let history = &after[set::REVISION_HISTORY];
    assert!(history.len() <= 2000 && history.ends_with(",777777"));
    assert!(history.starts_with("12345,"));
}

#[test]
fn annotations_of_the_deployment_go_to_the_newest_set() {
    let mut d = deployment(3, "v1");
    let own = [
        ("team".to_owned(), "a".to_owned()),
        (set::ROLLBACK_TO.to_owned(), "x".to_owned()),
    ];
    d.metadata.annotations = Some(own.into());
    let plan = made(&d, &[set("v1", 1, 3, 3, 3)]);
    assert_eq!(plan.updates[0].annotations["team"], "a");
    assert!(!plan.updates[0].annotations.contains_key(set::ROLLBACK_TO));
}

fn complete(d: &Deployment, sets: &[ReplicaSet]) -> Deployment {
    let mut d = d.clone();
    d.status = Some(made(&d, sets).status);
    d
}

#[test]
fn a_complete_rollout_says_so_and_drops_the_surplus_of_its_history() {
    let mut d = deployment(3, "v3");
    d.spec.revision_history_limit = Some(1);
    let sets = [
        set("v1", 1, 0, 0, 3),
        set("v2", 2, 0, 0, 3),
        set("v3", 3, 3, 3, 3),
    ];
    let d = complete(&d, &sets);
    let plan = made(&d, &sets);
    assert_eq!(
        progressing(&plan).reason.as_deref(),
        Some(conditions::NEW_AVAILABLE)
    );
    assert_eq!(plan.delete.len(), 1);
    assert_eq!(set::name(&plan.delete[0]), "web-v1");
    assert_eq!(plan.after, None);
    assert_eq!(Some(&plan.status), d.status.as_ref(), "nothing to write");
    assert!(plan.updates.is_empty());
}

#[test]
fn a_rollout_without_progress_times_out() {
    let d = deployment(3, "v1");
    let sets = [set("v1", 1, 3, 0, 3)];
    let mut d = complete(&d, &sets);
    let plan = made(&d, &sets);
    assert_eq!(plan.after, Some(Duration::from_secs(601)));
    let status = d.status.as_mut().unwrap();
    for condition in status.conditions.as_mut().unwrap() {
        condition.last_update_time = Some(Time(Timestamp::from_second(999_000).unwrap()));
    }
    let plan = made(&d, &sets);
    assert_eq!(
        progressing(&plan).reason.as_deref(),
        Some(conditions::TIMED_OUT)
    );
    assert_eq!(progressing(&plan).status.as_deref(), Some("False"));
    assert_eq!(plan.after, None);
    let message = progressing(&plan).message.as_deref().unwrap();
    assert_eq!(message, "ReplicaSet \"web-v1\" has timed out progressing.");
}

#[test]
fn the_status_counts_pods_of_all_sets() {
    let d = deployment(4, "v2");
    let plan = made(&d, &[set("v1", 1, 3, 3, 4), set("v2", 2, 2, 1, 4)]);
    let status = &plan.status;
    assert_eq!(status.replicas, Some(5));
    assert_eq!(status.updated_replicas, Some(2));
    assert_eq!(status.available_replicas, Some(4));
    assert_eq!(status.unavailable_replicas, Some(1));
    assert_eq!(status.observed_generation, Some(3));
    let available = conditions::get(status, conditions::AVAILABLE).unwrap();
    assert_eq!(available.status.as_deref(), Some("True"));
}

#[test]
fn a_rollback_takes_template_and_annotations_of_the_revision() {
    let mut d = deployment(3, "v2");
    d.metadata.annotations = Some([(set::ROLLBACK_TO.to_owned(), "0".to_owned())].into());
    let mut old = set("v1", 1, 0, 0, 3);
    let cause = ("change-cause".to_owned(), "first".to_owned());
    old.metadata.annotations.as_mut().unwrap().extend([cause]);
    let plan = made(&d, &[old, set("v2", 2, 3, 3, 3)]);
    let rollback = plan.rollback.unwrap();
    let (back, annotations) = rollback.to.unwrap();
    assert!(set::same_template(&back, &template("v1")));
    assert_eq!(annotations["change-cause"], "first");
    assert!(!annotations.contains_key(set::ROLLBACK_TO));
    assert_eq!(
        rollback.message,
        "Rolled back deployment \"web\" to revision 1"
    );
}

#[test]
fn a_rollback_to_nowhere_is_refused() {
    let mut d = deployment(3, "v2");
    d.metadata.annotations = Some([(set::ROLLBACK_TO.to_owned(), "9".to_owned())].into());
    let rollback = made(&d, &[set("v2", 2, 3, 3, 3)]).rollback.unwrap();
    assert!(rollback.warning && rollback.to.is_none());
    assert_eq!(rollback.reason, "DeploymentRollbackRevisionNotFound");
}

#[test]
fn a_deployment_that_is_being_deleted_only_counts() {
    let mut d = deployment(3, "v2");
    d.metadata.deletion_timestamp = Some(Time(now()));
    let plan = made(&d, &[set("v1", 1, 3, 3, 3)]);
    assert_eq!((plan.create, plan.updates.len()), (None, 0));
    assert_eq!(plan.status.replicas, Some(3));
}

#[test]
fn one_pod_may_go_when_both_limits_come_out_as_nothing() {
    let mut d = deployment(1, "v2");
    d.spec.strategy.as_mut().unwrap().rolling_update = Some(RollingUpdateDeployment {
        max_surge: Some(IntOrString::Int(0)),
        max_unavailable: Some(IntOrString::String("1%".to_owned())),
    });
    assert_eq!(strategy::max_surge(&d), 0);
    assert_eq!(strategy::max_unavailable(&d), 1);
    d.spec.replicas = Some(0);
    assert_eq!(strategy::max_unavailable(&d), 0);
}

#[test]
fn the_hash_label_does_not_make_another_template() {
    let mut labelled = template("v1");
    labelled.metadata = Some(ObjectMeta {
        labels: Some([(set::HASH_LABEL.to_owned(), "x".to_owned())].into()),
        ..ObjectMeta::default()
    });
    assert!(set::same_template(&labelled, &template("v1")));
    assert!(!set::same_template(&labelled, &template("v2")));
}
