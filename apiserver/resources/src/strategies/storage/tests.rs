use super::super::testing::Of;

const CLASSES: Of = Of("storage.k8s.io", "v1", "storageclasses");
const ATTRIBUTES: Of = Of("storage.k8s.io", "v1", "volumeattributesclasses");
const DRIVERS: Of = Of("storage.k8s.io", "v1", "csidrivers");
const NODES: Of = Of("storage.k8s.io", "v1", "csinodes");
const CAPACITIES: Of = Of("storage.k8s.io", "v1", "csistoragecapacities");
const ATTACHMENTS: Of = Of("storage.k8s.io", "v1", "volumeattachments");

fn with(fields: &str) -> String {
    format!(r#"{{"metadata":{{"name":"x"}},{fields}}}"#)
}

fn namespaced(fields: &str) -> String {
    format!(r#"{{"metadata":{{"name":"x","namespace":"n"}},{fields}}}"#)
}

#[test]
fn a_class_names_who_provides() {
    for (fields, errors) in [
        (r#""provisioner":"a.b/C""#, &[][..]),
        (r#""provisioner":"""#, &["provisioner: Required value"]),
        (
            r#""provisioner":"p","reclaimPolicy":"Recycle","volumeBindingMode":"x""#,
            &[
                r#"reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain""#,
                r#"volumeBindingMode: Unsupported value: "x": supported values: "Immediate", "WaitForFirstConsumer""#,
            ],
        ),
        (
            r#""provisioner":"p","allowedTopologies":[{"matchLabelExpressions":[{"key":"k","values":["a","a"]}]},{}]"#,
            &[
                r#"allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "a""#,
                r#"allowedTopologies[1].matchLabelExpressions: Duplicate value: """#,
            ],
        ),
    ] {
        assert_eq!(CLASSES.refused(&with(fields)), errors, "{fields}");
    }
}

#[test]
fn what_a_class_means_does_not_change() {
    let class = |fields: &str| {
        with(&format!(
            r#"{fields},"reclaimPolicy":"Delete","volumeBindingMode":"Immediate""#
        ))
    };
    let told = CLASSES.refused_update(
        "",
        &class(r#""provisioner":"q","parameters":{"a":"c"}"#),
        &class(r#""provisioner":"p","parameters":{"a":"b"}"#),
    );
    assert_eq!(
        told,
        [
            "provisioner: Invalid value: null: field is immutable",
            "parameters: Invalid value: null: field is immutable",
        ]
    );
    let told = ATTRIBUTES.refused_update(
        "",
        &with(r#""driverName":"q","parameters":{"a":"b"}"#),
        &with(r#""driverName":"p","parameters":{"a":"b"}"#),
    );
    assert_eq!(
        told,
        ["driverName: Forbidden: updates to driverName are forbidden."]
    );
    let told = ATTRIBUTES.refused(&with(r#""driverName":"q""#));
    assert_eq!(
        told,
        ["parameters: Required value: must contain at least one key/value pair"]
    );
}

#[test]
fn a_driver_says_how_it_is_used() {
    for (spec, errors) in [
        ("{}", &[][..]),
        (
            r#"{"fsGroupPolicy":"x","volumeLifecycleModes":["Persistent","y"],"nodeAllocatableUpdatePeriodSeconds":9}"#,
            &[
                r#"spec.fsGroupPolicy: Unsupported value: "x": supported values: "File", "None", "ReadWriteOnceWithFSType""#,
                r#"spec.volumeLifecycleModes: Unsupported value: "y": supported values: "Persistent", "Ephemeral""#,
                "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
            ],
        ),
        (
            r#"{"serviceAccountTokenInSecrets":true}"#,
            &[
                "spec.serviceAccountTokenInSecrets: Invalid value: true: serviceAccountTokenInSecrets is set but no tokenRequests are specified",
            ],
        ),
        (
            r#"{"tokenRequests":[{"audience":"a","expirationSeconds":1},{"audience":"a"}]}"#,
            &[
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
                r#"spec.tokenRequests[1].audience: Duplicate value: "a""#,
            ],
        ),
    ] {
        let driver = with(&format!(r#""spec":{spec}"#));
        assert_eq!(DRIVERS.refused(&driver), errors, "{spec}");
    }
    let driver = |fields: &str| {
        with(&format!(
            r#""spec":{{"podInfoOnMount":false,"storageCapacity":false,"requiresRepublish":false,"seLinuxMount":false,"fsGroupPolicy":"File",{fields}}}"#
        ))
    };
    let told = DRIVERS.refused_update(
        "",
        &driver(r#""attachRequired":false,"volumeLifecycleModes":["Ephemeral"]"#),
        &driver(r#""attachRequired":true,"volumeLifecycleModes":["Persistent"]"#),
    );
    assert_eq!(
        told,
        [
            "spec.attachedRequired: Invalid value: false: field is immutable",
            r#"spec.volumeLifecycleModes: Invalid value: ["Ephemeral"]: field is immutable"#,
        ]
    );
}

#[test]
fn drivers_of_a_node_change_only_in_number_of_volumes() {
    let node = |driver: &str| with(&format!(r#""spec":{{"drivers":[{driver}]}}"#));
    let old = node(r#"{"name":"d","nodeID":"i","topologyKeys":["k"]}"#);
    let new = node(r#"{"name":"d","nodeID":"i","topologyKeys":["k"],"allocatable":{"count":7}}"#);
    assert!(NODES.refused(&old).is_empty());
    assert!(NODES.refused_update("", &new, &old).is_empty());
    assert_eq!(
        NODES.refused_update("", &node(r#"{"name":"d","nodeID":"j"}"#), &old),
        [
            r#"spec.drivers: Invalid value: {"Name":"d","NodeID":"j","TopologyKeys":null,"Allocatable":null}: field is immutable"#
        ]
    );
    assert_eq!(
        NODES.refused(&node(r#"{"name":"","nodeID":"","topologyKeys":["k","k"]}"#)),
        [
            "spec.drivers[0].name: Required value",
            "spec.drivers[0].nodeID: Required value",
            r#"spec.drivers[0]: Duplicate value: "k""#,
        ]
    );
}

#[test]
fn a_capacity_is_of_a_class_and_a_place() {
    let told = CAPACITIES.refused(&namespaced(r#""storageClassName":"A","capacity":"-1""#));
    assert_eq!(told.len(), 2);
    assert_eq!(
        told[1],
        r#"capacity: Invalid value: "-1": must be greater than or equal to 0"#
    );
    let told = CAPACITIES.refused_update(
        "",
        &namespaced(r#""storageClassName":"b""#),
        &namespaced(r#""storageClassName":"a","nodeTopology":{"matchLabels":{"a":"b"}}"#),
    );
    assert_eq!(
        told,
        [
            "nodeTopology: Invalid value: null: field is immutable",
            r#"storageClassName: Invalid value: "b": field is immutable"#,
        ]
    );
}

#[test]
fn an_attachment_is_of_one_volume() {
    let of = |source: &str| {
        with(&format!(
            r#""spec":{{"attacher":"d","nodeName":"n","source":{source}}}"#
        ))
    };
    for (source, errors) in [
        (r#"{"persistentVolumeName":"v"}"#, &[][..]),
        (
            "{}",
            &[
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ],
        ),
        (
            r#"{"inlineVolumeSpec":{"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1"},"csi":{"driver":"d","volumeHandle":"h"}}}"#,
            &[
                "spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes",
            ],
        ),
    ] {
        assert_eq!(ATTACHMENTS.refused(&of(source)), errors, "{source}");
    }
    let (old, new) = (
        of(r#"{"persistentVolumeName":"v"}"#),
        of(r#"{"persistentVolumeName":"w"}"#),
    );
    assert_eq!(
        ATTACHMENTS.refused_update("", &new, &old),
        ["spec: Invalid value: null: field is immutable"]
    );
    let failed = old.replace(
        r#""spec""#,
        r#""status":{"attached":false,"attachError":{"errorCode":-1}},"spec""#,
    );
    assert_eq!(
        ATTACHMENTS.refused_update("status", &failed, &old),
        [
            "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive"
        ]
    );
}

#[test]
fn a_driver_that_is_used_otherwise_is_of_a_new_generation() {
    let driver = |seconds: u32| {
        with(&format!(
            r#""spec":{{"tokenRequests":[{{"audience":"a","expirationSeconds":{seconds}}}],"attachRequired":true,"podInfoOnMount":false,"storageCapacity":false,"requiresRepublish":false,"seLinuxMount":false,"fsGroupPolicy":"File","volumeLifecycleModes":["Persistent"],"preventPodSchedulingIfMissing":false}}"#
        ))
    };
    let generation = |new: u32, old: u32| {
        let stored = DRIVERS.update("", &driver(new), &driver(old)).unwrap();
        proto::meta::generation(&stored)
    };
    assert_eq!(generation(700, 600), Some(1));
    assert_eq!(generation(600, 600), None);
}
