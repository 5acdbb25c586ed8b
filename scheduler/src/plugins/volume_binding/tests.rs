use super::*;
use crate::config::ProfileConfig;
use crate::decide::{Decision, Failure, Search, decide};
use crate::profile::Profile;
use crate::queue::Nominated;
use crate::testing::{node, object};
use component::features::Features;
use serde_json::{Value, json};

fn profile() -> Profile {
    ProfileConfig::default()
        .build(0, &Features::defaults())
        .unwrap()
}

/// Two nodes in two zones, and two classes: volumes of `local` are made by people, of `made` on demand.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.set_node(&node("na", json!({ "zone": "a" })));
    cluster.set_node(&node("nb", json!({ "zone": "b" })));
    for (name, provisioner) in [
        ("local", "kubernetes.io/no-provisioner"),
        ("made", "csi.example.com"),
    ] {
        let class = json!({ "metadata": { "name": name }, "provisioner": provisioner,
            "volumeBindingMode": "WaitForFirstConsumer" });
        let class = Arc::new(proto::typed::from_json_value(class).unwrap());
        cluster
            .volumes_mut()
            .set(name, &Storage::Class((None, Some(class))));
    }
    cluster
}

fn add_volume(cluster: &mut Cluster, name: &str, size: &str, zone: &str) {
    let term =
        json!({ "matchExpressions": [{ "key": "zone", "operator": "In", "values": [zone] }] });
    let volume = json!({
        "metadata": { "name": name, "resourceVersion": "1" },
        "spec": { "storageClassName": "local", "capacity": { "storage": size }, "accessModes": ["ReadWriteOnce"],
            "nodeAffinity": { "required": { "nodeSelectorTerms": [term] } } },
        "status": { "phase": "Available" },
    });
    let volume = Arc::new(proto::typed::from_json_value(volume).unwrap());
    cluster
        .volumes_mut()
        .set(name, &Storage::Volume((None, Some(volume))));
}

fn add_claim(cluster: &mut Cluster, name: &str, class: &str, size: &str) {
    set_claim(
        cluster,
        json!({
            "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "1" },
            "spec": { "storageClassName": class, "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": size } } },
        }),
    );
}

fn set_claim(cluster: &mut Cluster, claim: Value) {
    let key = format!("default/{}", claim["metadata"]["name"].as_str().unwrap());
    let claim = Arc::new(proto::typed::from_json_value(claim).unwrap());
    cluster
        .volumes_mut()
        .set(&key, &Storage::Claim((None, Some(claim))));
}

fn using(name: &str, claims: &[&str]) -> Arc<PodInfo> {
    let volumes: Vec<_> = claims
        .iter()
        .map(|c| json!({ "name": c, "persistentVolumeClaim": { "claimName": c } }))
        .collect();
    object(
        json!({ "metadata": { "name": name, "namespace": "default", "uid": format!("uid-{name}") },
        "spec": { "containers": [], "volumes": volumes } }),
    )
}

fn run(cluster: &Cluster, pod: &PodInfo) -> Result<Decision, Failure> {
    let mut search = Search::seeded(1);
    decide(cluster, &profile(), pod, &Nominated::default(), &mut search)
}

fn said(cluster: &Cluster, pod: &PodInfo) -> String {
    run(cluster, pod).unwrap_err().to_string()
}

fn plugin() -> VolumeBinding {
    VolumeBinding {
        timeout: Duration::from_secs(1),
        shape: vec![(0, 100), (100, 0)],
    }
}

#[test]
fn a_pod_goes_where_a_volume_for_its_claim_is() {
    let mut cluster = cluster();
    add_claim(&mut cluster, "c", "local", "5G");
    let pod = using("p", &["c"]);
    assert!(said(&cluster, &pod).starts_with(
        "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."
    ));
    add_volume(&mut cluster, "small", "1G", "a");
    add_volume(&mut cluster, "large", "9G", "b");
    let decision = run(&cluster, &pod).unwrap();
    assert_eq!(cluster.name(decision.node), "nb");
}

#[test]
fn a_volume_that_is_spoken_for_is_not_given_twice() {
    let mut cluster = cluster();
    for claim in ["c", "d"] {
        add_claim(&mut cluster, claim, "local", "1G");
    }
    add_volume(&mut cluster, "v", "1G", "a");
    let (p, q) = (using("p", &["c"]), using("q", &["d"]));
    let at = run(&cluster, &p).unwrap().node;
    let held = plugin().reserve(&mut cluster, &p, at).unwrap().unwrap();
    let spec = cluster.volumes().volumes.get("v").unwrap().spec.clone();
    assert_eq!(
        spec.unwrap().claim_ref.unwrap().uid.as_deref(),
        Some("uid-c")
    );
    assert!(
        said(&cluster, &q).contains("2 node(s) didn't find available persistent volumes to bind")
    );
    held.undo(&mut cluster);
    assert!(run(&cluster, &q).is_ok());
}

#[test]
fn several_claims_need_a_volume_each_and_small_ones_leave_the_large() {
    let mut cluster = cluster();
    add_claim(&mut cluster, "big", "local", "5G");
    add_claim(&mut cluster, "tiny", "local", "1G");
    add_volume(&mut cluster, "five", "5G", "a");
    let pod = using("p", &["big", "tiny"]);
    assert!(run(&cluster, &pod).is_err());
    add_volume(&mut cluster, "two", "2G", "a");
    assert_eq!(cluster.name(run(&cluster, &pod).unwrap().node), "na");
}

#[test]
fn a_volume_can_be_made_where_the_class_and_the_room_allow() {
    let mut cluster = cluster();
    add_claim(&mut cluster, "c", "made", "5G");
    let pod = using("p", &["c"]);
    assert!(
        run(&cluster, &pod).is_ok(),
        "nobody says that there is no room"
    );
    let driver =
        json!({ "metadata": { "name": "csi.example.com" }, "spec": { "storageCapacity": true } });
    let driver = Arc::new(proto::typed::from_json_value(driver).unwrap());
    let all = cluster.volumes_mut();
    all.set("csi.example.com", &Storage::Driver((None, Some(driver))));
    assert!(said(&cluster, &pod).contains("2 node(s) did not have enough free storage"));
    let capacity = json!({ "metadata": { "name": "x", "namespace": "s" }, "storageClassName": "made", "capacity": "7G",
        "nodeTopology": { "matchLabels": { "zone": "b" } } });
    let capacity = Arc::new(proto::typed::from_json_value(capacity).unwrap());
    let all = cluster.volumes_mut();
    all.set("s/x", &Storage::Capacity((None, Some(capacity))));
    let node = run(&cluster, &pod).unwrap().node;
    assert_eq!(cluster.name(node), "nb");
    let held = plugin().reserve(&mut cluster, &pod, node).unwrap();
    assert!(held.is_some());
    let claim = cluster.volumes().claims.get("default/c").unwrap();
    let annotations = claim.metadata.annotations.clone().unwrap();
    assert_eq!(annotations["volume.kubernetes.io/selected-node"], "nb");
}

#[test]
fn a_bound_volume_says_where_its_pod_goes_and_needs_no_binding() {
    let mut cluster = cluster();
    add_volume(&mut cluster, "v", "1G", "b");
    let mut claim = json!({ "metadata": { "name": "c", "namespace": "default", "uid": "uid-c", "resourceVersion": "1",
        "annotations": { "pv.kubernetes.io/bind-completed": "yes" } },
        "spec": { "volumeName": "v", "storageClassName": "local" } });
    set_claim(&mut cluster, claim.clone());
    let pod = using("p", &["c"]);
    let node = run(&cluster, &pod).unwrap().node;
    assert_eq!(cluster.name(node), "nb");
    assert!(
        plugin()
            .reserve(&mut cluster, &pod, node)
            .unwrap()
            .is_none()
    );
    claim["spec"]["volumeName"] = json!("gone");
    set_claim(&mut cluster, claim);
    // The zone plugin comes after: this one has the word.
    assert!(said(&cluster, &pod).contains("persistentvolume \"gone\" not found"));
}

#[test]
fn claims_that_nobody_bound_or_made_keep_a_pod_waiting() {
    let mut cluster = cluster();
    let pod = using("p", &["c"]);
    assert!(said(&cluster, &pod).contains("persistentvolumeclaim \"c\" not found."));
    set_claim(
        &mut cluster,
        json!({ "metadata": { "name": "c", "namespace": "default" }, "spec": {} }),
    );
    assert!(said(&cluster, &pod).contains("pod has unbound immediate PersistentVolumeClaims."));
    let mut own = (*pod.pod).clone();
    own.spec = proto::typed::from_json_value(
        json!({ "containers": [], "volumes": [{ "name": "scratch", "ephemeral": {} }] }),
    )
    .unwrap();
    let own = PodInfo::new(Arc::new(own));
    assert!(said(&cluster, &own).contains(
        "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-scratch\""
    ));
    set_claim(
        &mut cluster,
        json!({ "metadata": { "name": "p-scratch", "namespace": "default" }, "spec": {} }),
    );
    let said = said(&cluster, &own);
    assert!(
        said.contains("PVC default/p-scratch was not created for pod default/p (pod is not owner)"),
        "{said}"
    );
}

#[test]
fn a_claim_for_one_pod_only_may_be_had_by_preemption() {
    let mut cluster = cluster();
    set_claim(
        &mut cluster,
        json!({ "metadata": { "name": "c", "namespace": "default",
        "annotations": { "pv.kubernetes.io/bind-completed": "yes" } },
        "spec": { "volumeName": "v", "accessModes": ["ReadWriteOncePod"] } }),
    );
    let volume = Arc::new(
        proto::typed::from_json_value(json!({ "metadata": { "name": "v" }, "spec": {} })).unwrap(),
    );
    cluster
        .volumes_mut()
        .set("v", &Storage::Volume((None, Some(volume))));
    let user = using("user", &["c"]);
    let at = cluster.node("na").unwrap();
    cluster.assume(&user, at);
    let mut other = (*using("other", &["c"]).pod).clone();
    let reason = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
    let same = PodInfo::new(Arc::new(other.clone()));
    assert!(said(&cluster, &same).contains(reason));
    other.spec.as_mut().unwrap().priority = Some(10);
    let Err(Failure::Unfit { nominate, .. }) = run(&cluster, &PodInfo::new(Arc::new(other))) else {
        panic!("it is taken")
    };
    let made = nominate.unwrap();
    assert_eq!(made.nominate.as_deref(), Some("na"));
    assert_eq!(made.victims.len(), 1);
}

#[test]
fn a_node_takes_no_more_volumes_than_its_driver_attaches() {
    let mut cluster = cluster();
    for name in ["c", "d"] {
        set_claim(
            &mut cluster,
            json!({ "metadata": { "name": name, "namespace": "default",
            "annotations": { "pv.kubernetes.io/bind-completed": "yes" } }, "spec": { "volumeName": name } }),
        );
        let volume = json!({ "metadata": { "name": name },
            "spec": { "csi": { "driver": "csi.example.com", "volumeHandle": name } } });
        let volume = Arc::new(proto::typed::from_json_value(volume).unwrap());
        cluster
            .volumes_mut()
            .set(name, &Storage::Volume((None, Some(volume))));
    }
    cluster.remove_node("nb");
    let limit = json!({ "metadata": { "name": "na" },
        "spec": { "drivers": [{ "name": "csi.example.com", "nodeID": "na", "allocatable": { "count": 1 } }] } });
    let limit = Arc::new(proto::typed::from_json_value(limit).unwrap());
    cluster
        .volumes_mut()
        .set("na", &Storage::Node((None, Some(limit))));
    let at = cluster.node("na").unwrap();
    cluster.assume(&using("p", &["c"]), at);
    assert!(
        run(&cluster, &using("same", &["c"])).is_ok(),
        "one volume counts once"
    );
    assert!(said(&cluster, &using("q", &["d"])).contains("1 node(s) exceed max volume count."));
    cluster.remove_pod("uid-p");
    assert!(run(&cluster, &using("q", &["d"])).is_ok());
}

#[test]
fn zones_of_a_volume_are_those_of_its_pod() {
    const ZONE: &str = "topology.kubernetes.io/zone";
    let mut cluster = Cluster::default();
    for (name, zone) in [("na", "a"), ("nb", "b")] {
        cluster.set_node(&node(name, json!({ ZONE: zone })));
    }
    set_claim(
        &mut cluster,
        json!({ "metadata": { "name": "c", "namespace": "default",
        "annotations": { "pv.kubernetes.io/bind-completed": "yes" } }, "spec": { "volumeName": "v" } }),
    );
    let volume = json!({ "metadata": { "name": "v",
        "labels": { "failure-domain.beta.kubernetes.io/zone": "b__c" } }, "spec": {} });
    let volume = Arc::new(proto::typed::from_json_value(volume).unwrap());
    cluster
        .volumes_mut()
        .set("v", &Storage::Volume((None, Some(volume))));
    assert_eq!(
        cluster.name(run(&cluster, &using("p", &["c"])).unwrap().node),
        "nb"
    );
    cluster.remove_node("nb");
    assert!(said(&cluster, &using("p", &["c"])).contains("1 node(s) had no available volume zone"));
}
