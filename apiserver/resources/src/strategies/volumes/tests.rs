use proto::MsgId;
use proto::catalogue::messages::core_v1;
use proto::codec::json::{self, Strictness};

use component::serving::User;
use proto::Value;
use proto::catalogue::{Gates, names as n};
use proto::path::Errors;
use proto::view::core_v1::PersistentVolume;
use proto::view::{Node, View};

use super::claim::{self, cells as claim_cells, update as claim_update};
use super::volume::{cells as volume_cells, update as volume_update, volume};
use super::{PERSISTENT_VOLUME, PERSISTENT_VOLUME_CLAIM};
use crate::defaults;
use crate::strategy::Cx;

fn decode(text: &str, message: MsgId) -> Value {
    json::decode(text.as_bytes(), message, Strictness::Strict)
        .expect("the test's JSON is valid")
        .value
}

fn pv(spec: &str, status: &str) -> Value {
    let text = format!(r#"{{"metadata":{{"name":"v"}},"spec":{spec},"status":{status}}}"#);
    decode(&text, core_v1::PERSISTENT_VOLUME)
}

fn pvc(spec: &str, status: &str) -> Value {
    let text = format!(r#"{{"metadata":{{"name":"c"}},"spec":{spec},"status":{status}}}"#);
    decode(&text, core_v1::PERSISTENT_VOLUME_CLAIM)
}

const VOLUME: &str = r#"{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce","ReadOnlyMany"],"hostPath":{"path":"/x"}}"#;
const CLAIM: &str =
    r#"{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}"#;

/// What is wrong with an object, or with an update of it, as `field: reason`.
fn problems<'v>(new: &'v Value, check: impl FnOnce(&mut Errors<'v>)) -> Vec<String> {
    let mut errors = Errors::new(new);
    check(&mut errors);
    let all = errors.into_vec();
    let shown = all.iter().map(|e| format!("{}: {:?}", e.field, e.reason));
    shown.collect()
}

fn with(now: &str, run: impl FnOnce(&Cx<'_>)) {
    let user = User::default();
    run(&Cx {
        user: &user,
        namespace: "",
        now,
        now_seconds: 0,
        gates: Gates::defaults(),
        allow_privileged: false,
        objections: &[],
        dry_run: false,
    });
}

#[test]
fn a_phase_has_the_time_of_its_beginning() {
    let mut new = pv(VOLUME, r#"{"phase":"Bound"}"#);
    with("2026-01-01T00:00:00Z", |cx| {
        (PERSISTENT_VOLUME.prepare_create)(cx, &mut new);
    });
    let since = |v: &Value| {
        let at = v.at(&[n::STATUS, n::LAST_PHASE_TRANSITION_TIME]);
        at.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let phase = |v: &Value| {
        PersistentVolume::of(Node::new(v))
            .status()
            .phase()
            .to_owned()
    };
    assert_eq!(
        (phase(&new).as_str(), since(&new).as_str()),
        ("Pending", "2026-01-01T00:00:00Z")
    );
    let old = new;
    let update = |status: &str| {
        let mut new = pv(VOLUME, status);
        let part = PERSISTENT_VOLUME.status.expect("volumes have a status");
        with("2026-01-02T00:00:00Z", |cx| {
            (part.prepare_update)(cx, &mut new, &old);
        });
        since(&new)
    };
    assert_eq!(update(r#"{"phase":"Pending"}"#), "2026-01-01T00:00:00Z");
    assert_eq!(update(r#"{"phase":"Bound"}"#), "2026-01-02T00:00:00Z");
    let same = r#"{"phase":"Bound","lastPhaseTransitionTime":"2026-01-01T00:00:00Z"}"#;
    assert_eq!(update(same), "2026-01-02T00:00:00Z");
    let own = r#"{"phase":"Bound","lastPhaseTransitionTime":"2026-01-01T12:00:00Z"}"#;
    assert_eq!(update(own), "2026-01-01T12:00:00Z");
}

#[test]
fn a_claim_is_pending_until_somebody_says_otherwise() {
    let mut claim = pvc(CLAIM, r#"{"phase":"Bound"}"#);
    with("", |cx| {
        (PERSISTENT_VOLUME_CLAIM.prepare_create)(cx, &mut claim)
    });
    assert_eq!(claim.get(n::STATUS), Some(&Value::object()));
    let read = |claim: &mut Value| {
        let message = core_v1::PERSISTENT_VOLUME_CLAIM;
        defaults::apply(Gates::defaults(), claim, message);
    };
    read(&mut claim);
    let shown: Vec<_> = claim_cells(&claim, 0);
    assert_eq!(shown[1].as_str(), Some("Pending"));
    let mut bound = pvc(CLAIM, r#"{"phase":"Bound"}"#);
    read(&mut bound);
    assert_eq!(claim_cells(&bound, 0)[1].as_str(), Some("Bound"));
}

#[test]
fn volumes_say_what_they_are() {
    let good = pv(VOLUME, "{}");
    assert!(problems(&good, |e| volume(&good, None, e)).is_empty());
    let bad = pv(
        r#"{"capacity":{"storage":"0"},"accessModes":["ReadWriteOncePod","ReadOnlyMany","No"],"hostPath":{"path":"/"},
            "nfs":{"server":"s","path":"/"},"persistentVolumeReclaimPolicy":"Recycle","storageClassName":"A","volumeMode":"None"}"#,
        "{}",
    );
    assert_eq!(
        problems(&bad, |e| volume(&bad, None, e)),
        [
            "spec.accessModes: NotSupported",
            "spec.accessModes: Forbidden",
            "spec.capacity[storage]: Invalid",
            "spec.nfs: Forbidden",
            "spec.persistentVolumeReclaimPolicy: Forbidden",
            "spec.storageClassName: Invalid",
            "spec.volumeMode: NotSupported",
        ]
    );
    let none = pv("{}", "{}");
    assert_eq!(
        problems(&none, |e| volume(&none, None, e)),
        [
            "spec.accessModes: Required",
            "spec.capacity: Required",
            "spec.capacity: NotSupported",
            "spec: Required",
        ]
    );
}

#[test]
fn the_source_of_a_volume_stays() {
    let old = pv(VOLUME, "{}");
    let grown = pv(&VOLUME.replace("1Gi", "2Gi"), "{}");
    assert!(
        problems(&grown, |e| volume_update(
            Gates::defaults(),
            &grown,
            &old,
            e
        ))
        .is_empty()
    );
    let moved = pv(&VOLUME.replace("/x", "/y"), "{}");
    assert_eq!(
        problems(&moved, |e| volume_update(
            Gates::defaults(),
            &moved,
            &old,
            e
        )),
        ["spec.persistentvolumesource: Forbidden"]
    );
    let csi = r#"{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],"csi":{"driver":"d","volumeHandle":"h"}}"#;
    let old = pv(csi, "{}");
    let secret = r#""volumeHandle":"h","controllerExpandSecretRef":{"name":"s","namespace":"n"}"#;
    let new = pv(&csi.replace(r#""volumeHandle":"h""#, secret), "{}");
    assert!(problems(&new, |e| volume_update(Gates::defaults(), &new, &old, e)).is_empty());
    assert!(!problems(&old, |e| volume_update(Gates::defaults(), &old, &new, e)).is_empty());
}

#[test]
fn claims_say_what_they_want() {
    let good = pvc(CLAIM, "{}");
    assert!(problems(&good, |e| claim::claim(&good, None, e)).is_empty());
    let bad = pvc(
        r#"{"resources":{},"dataSource":{"kind":"X","name":""},"selector":{"matchLabels":{"-":"a"}}}"#,
        "{}",
    );
    assert_eq!(
        problems(&bad, |e| claim::claim(&bad, None, e)),
        [
            "spec.accessModes: Required",
            "spec.selector.matchLabels: Invalid",
            "spec.resources[storage]: Required",
            "spec.dataSource.name: Required",
            "spec.dataSource: Invalid",
        ]
    );
}

#[test]
fn of_a_claim_little_changes() {
    let bound = r#"{"phase":"Bound","capacity":{"storage":"1Gi"}}"#;
    let old = pvc(CLAIM, bound);
    let check = |spec: &str, old: &Value| {
        let status = old.get(n::STATUS).cloned().expect("there is one");
        let mut new = pvc(spec, "{}");
        new.set(&[n::STATUS], status);
        problems(&new, |e| claim_update(&new, old, e))
    };
    assert!(check(CLAIM, &old).is_empty());
    let more = CLAIM.replace("1Gi", "2Gi");
    assert!(check(&more, &old).is_empty(), "a bound claim grows");
    assert_eq!(check(&more, &pvc(CLAIM, "{}")), ["spec: Forbidden"]);
    assert_eq!(
        check(&CLAIM.replace("1Gi", "1Mi"), &old),
        ["spec.resources.requests.storage: Forbidden"]
    );
    let given = CLAIM.replace("{\"access", "{\"volumeName\":\"v\",\"access");
    assert!(check(&given, &old).is_empty());
    assert_eq!(
        check(&given.replace("\"v\"", "\"w\""), &pvc(&given, bound)),
        ["spec: Forbidden"]
    );
    let classed = CLAIM.replace("{\"access", "{\"storageClassName\":\"s\",\"access");
    assert!(check(&classed, &old).is_empty(), "a class is given late");
    assert_eq!(
        check(&classed.replace("\"s\"", "\"t\""), &pvc(&classed, bound)),
        ["spec: Forbidden"]
    );
    let modes = CLAIM.replace("ReadWriteOnce", "ReadOnlyMany");
    assert_eq!(check(&modes, &old), ["spec: Forbidden"]);
}

#[test]
fn a_data_source_is_given_in_both_ways() {
    let prepared = |source: &str| {
        let mut claim = pvc(
            &CLAIM.replace("{\"access", &format!("{{{source},\"access")),
            "{}",
        );
        with("", |cx| {
            (PERSISTENT_VOLUME_CLAIM.prepare_create)(cx, &mut claim)
        });
        let kind = |field| {
            let kind = claim.at(&[n::SPEC, field, n::KIND]);
            kind.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        (kind(n::DATA_SOURCE), kind(n::DATA_SOURCE_REF))
    };
    let both = |kind: &str| (kind.to_owned(), kind.to_owned());
    let claim = "PersistentVolumeClaim";
    assert_eq!(
        prepared(r#""dataSource":{"kind":"PersistentVolumeClaim","name":"a"}"#),
        both(claim)
    );
    assert_eq!(
        prepared(r#""dataSource":{"kind":"Odd","name":"a"}"#),
        both("")
    );
    assert_eq!(
        prepared(r#""dataSourceRef":{"apiGroup":"x.io","kind":"Odd","name":"a"}"#),
        both("Odd")
    );
    assert_eq!(
        prepared(r#""dataSourceRef":{"apiGroup":"x.io","kind":"Odd","name":"a","namespace":"b"}"#),
        both(""),
        "of another namespace is behind a gate"
    );
}

#[test]
fn volumes_and_claims_are_shown_as_upstream_shows_them() {
    let shown = |cells: Vec<Value>| -> Vec<String> {
        let text = |c: &Value| c.as_str().unwrap_or_default().to_owned();
        cells.iter().map(text).collect()
    };
    let volume = pv(
        &VOLUME.replace("{\"cap", "{\"claimRef\":{\"namespace\":\"n\",\"name\":\"c\"},\"storageClassName\":\"s\",\"persistentVolumeReclaimPolicy\":\"Retain\",\"cap"),
        r#"{"phase":"Bound"}"#,
    );
    assert_eq!(
        shown(volume_cells(&volume, 0)),
        [
            "v",
            "1Gi",
            "RWO,ROX",
            "Retain",
            "Bound",
            "n/c",
            "s",
            "<unset>",
            "",
            "<unknown>",
            "<unset>"
        ]
    );
    let claim = pvc(
        &CLAIM.replace(
            "{\"access",
            "{\"volumeName\":\"v\",\"volumeMode\":\"Block\",\"access",
        ),
        r#"{"phase":"Bound","accessModes":["ReadWriteOncePod"],"capacity":{"storage":"2Gi"}}"#,
    );
    assert_eq!(
        shown(claim_cells(&claim, 0)),
        [
            "c",
            "Bound",
            "v",
            "2Gi",
            "RWOP",
            "",
            "<unset>",
            "<unknown>",
            "Block"
        ]
    );
}
