//! Deployments and what owns what.

use super::fixture::{SOON, eventually, shell, web};
use super::serving::CLUSTER;

#[test]
fn a_deployment_scales_rolls_out_and_goes_back() {
    let ns = CLUSTER.namespace("rollout");
    ns.apply(&web(1));
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    ns.kubectl(&["scale", "deployment/web", "--replicas=4"]);
    ns.wait_for("deployment/web", ".status.availableReplicas", "4");
    let before = ns.names("pods", "app=web");
    assert_eq!(before.len(), 4);

    ns.kubectl(&["set", "env", "deployment/web", "COLOUR=blue"]);
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let sets = ns.names("replicasets", "app=web");
    assert_eq!(sets.len(), 2, "{sets:?}");
    let colours = ns.kubectl(&[
        "get",
        "pods",
        "--field-selector=status.phase=Running",
        "-ojsonpath={.items[*].spec.containers[0].env[*].value}",
    ]);
    assert!(colours.split_whitespace().all(|c| c == "blue"), "{colours}");

    ns.kubectl(&["rollout", "undo", "deployment/web"]);
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    assert_eq!(
        ns.names("replicasets", "app=web"),
        sets,
        "going back uses the set that there was"
    );
    let revision = ns.kubectl(&[
        "get",
        "deployment/web",
        "-ojsonpath={.metadata.annotations.deployment\\.kubernetes\\.io/revision}",
    ]);
    assert_eq!(revision, "3");
}

#[test]
fn a_paused_deployment_waits_until_it_is_resumed() {
    let ns = CLUSTER.namespace("pause");
    ns.apply(&web(1));
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    ns.kubectl(&["rollout", "pause", "deployment/web"]);
    ns.kubectl(&["set", "env", "deployment/web", "COLOUR=blue"]);
    let generation = ns.get(&["deployment/web"])["metadata"]["generation"].to_string();
    ns.wait_for("deployment/web", ".status.observedGeneration", &generation);
    assert_eq!(ns.names("replicasets", "app=web").len(), 1);
    ns.kubectl(&["rollout", "resume", "deployment/web"]);
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    assert_eq!(ns.names("replicasets", "app=web").len(), 2);
}

#[test]
fn a_rollout_to_an_image_that_does_not_exist_takes_nothing_down() {
    let ns = CLUSTER.namespace("bad-image");
    let mut wanted = web(2);
    wanted["spec"]["progressDeadlineSeconds"] = 5.into();
    ns.apply(&wanted);
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    let good = ns.names("pods", "app=web");
    ns.kubectl(&[
        "set",
        "image",
        "deployment/web",
        "web=navarch.local/nothing:1",
    ]);
    let waiting = "-ojsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}";
    eventually(SOON, || {
        let reasons = ns.try_kubectl(&["get", "pods", waiting])?;
        match reasons.as_str() {
            "ErrImagePull" | "ImagePullBackOff" => Ok(()),
            other => Err(format!("waiting for {other:?}")),
        }
    });
    let progressing = ".status.conditions[?(@.type==\"Progressing\")].reason";
    ns.wait_for("deployment/web", progressing, "ProgressDeadlineExceeded");
    ns.wait_for("deployment/web", ".status.availableReplicas", "2");
    let now = ns.names("pods", "app=web");
    assert!(good.iter().all(|pod| now.contains(pod)), "{good:?} {now:?}");
    ns.kubectl(&["rollout", "undo", "deployment/web"]);
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    assert_eq!(
        eventually(SOON, || match ns.names("pods", "app=web") {
            left if left.len() == 2 => Ok(left),
            more => Err(format!("{more:?}")),
        }),
        good
    );
}

#[test]
fn what_an_owner_owned_goes_with_it_unless_it_is_orphaned() {
    let ns = CLUSTER.namespace("garbage");
    ns.apply(&web(2));
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    ns.kubectl(&["delete", "deployment/web", "--cascade=orphan"]);
    let sets = ns.names("replicasets", "app=web");
    assert_eq!(sets.len(), 1);
    eventually(SOON, || {
        let owners = ns.try_kubectl(&[
            "get",
            "replicasets",
            "-ojsonpath={.items[*].metadata.ownerReferences}",
        ])?;
        owners.is_empty().then_some(()).ok_or(owners)
    });
    assert_eq!(ns.names("pods", "app=web").len(), 2);

    let set = format!("replicaset/{}", sets[0]);
    ns.kubectl(&["delete", &set, "--cascade=foreground", "--timeout=90s"]);
    assert_eq!(
        ns.names("pods", "app=web"),
        Vec::<String>::new(),
        "in the foreground, the owner goes last"
    );

    ns.apply(&web(2));
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    ns.kubectl(&["delete", "deployment/web", "--cascade=background"]);
    eventually(SOON, || {
        let left = [
            ns.names("replicasets", "app=web"),
            ns.names("pods", "app=web"),
        ]
        .concat();
        left.is_empty().then_some(()).ok_or(format!("{left:?}"))
    });
}

#[test]
fn a_namespace_is_deleted_with_everything_in_it() {
    let ns = CLUSTER.namespace("doomed");
    ns.apply(&web(2));
    ns.apply(&shell("lone", "sleep 1000"));
    ns.kubectl(&["create", "configmap", "settings", "--from-literal=a=b"]);
    ns.kubectl(&["create", "secret", "generic", "token", "--from-literal=a=b"]);
    ns.kubectl(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    CLUSTER.kubectl(&["delete", "namespace", "doomed", "--timeout=90s"]);
    for kind in [
        "pods",
        "deployments",
        "replicasets",
        "configmaps",
        "secrets",
    ] {
        let left = ns.kubectl(&["get", kind, "-o", "name"]);
        assert_eq!(left, "", "{kind}");
    }
    let refused = ns
        .try_kubectl(&["create", "configmap", "late"])
        .unwrap_err();
    assert!(
        refused.contains("namespaces \"doomed\" not found"),
        "{refused}"
    );
}
