use super::Story;
use crate::apply::Error;

fn config_map() -> Story {
    Story::of("v1", "ConfigMap")
}

fn pod() -> Story {
    Story::of("v1", "Pod")
}

fn deployment() -> Story {
    Story::of("apps/v1", "Deployment")
}

#[test]
fn applying_twice_replaces_what_was_applied_before() {
    let mut s = config_map();
    s.apply("a", "{data: {x: '1', yy: '2'}}").unwrap();
    s.owned(&[r#"a Apply {"f:data":{"f:x":{},"f:yy":{}}}"#]);
    s.apply("a", "{data: {x: '3', z: '4'}}").unwrap();
    s.shows("{data: {x: '3', z: '4'}}");
    s.owned(&[r#"a Apply {"f:data":{"f:x":{},"f:z":{}}}"#]);
    s.apply("a", "{}").unwrap();
    s.shows("{}");
    s.owned(&[]);
}

#[test]
fn an_update_takes_fields_and_the_next_apply_conflicts() {
    let mut s = config_map();
    s.apply("a", "{data: {x: '1', yy: '1'}}").unwrap();
    s.update("b", "{data: {x: '2', yy: '1', z: '1'}}");
    s.owned(&[
        r#"a Apply {"f:data":{"f:yy":{}}}"#,
        r#"b Update {"f:data":{"f:x":{},"f:z":{}}}"#,
    ]);
    let text = s.conflicts("a", "{data: {x: '3', yy: '1'}}");
    assert_eq!(
        text,
        "Apply failed with 1 conflict: conflict with \"b\" using v1: .data.x"
    );
    // A refused apply changes nothing.
    s.shows("{data: {x: '2', yy: '1', z: '1'}}");
    s.force("a", "{data: {x: '3', yy: '1'}}");
    s.shows("{data: {x: '3', yy: '1', z: '1'}}");
    s.owned(&[
        r#"a Apply {"f:data":{"f:x":{},"f:yy":{}}}"#,
        r#"b Update {"f:data":{"f:z":{}}}"#,
    ]);
}

#[test]
fn the_same_value_is_shared_without_conflict() {
    let mut s = config_map();
    s.apply("a", "{data: {x: '1'}}").unwrap();
    s.apply("b", "{data: {x: '1'}}").unwrap();
    s.owned(&[
        r#"a Apply {"f:data":{"f:x":{}}}"#,
        r#"b Apply {"f:data":{"f:x":{}}}"#,
    ]);
    // Who gives a shared field up leaves it to the other.
    s.apply("a", "{}").unwrap();
    s.shows("{data: {x: '1'}}");
    s.owned(&[r#"b Apply {"f:data":{"f:x":{}}}"#]);
    s.apply("b", "{}").unwrap();
    s.shows("{}");
}

#[test]
fn conflicts_name_every_manager_and_field() {
    let mut s = config_map();
    s.apply("z", "{data: {x: '1', yy: '1'}}").unwrap();
    s.update_part("status", "c", "{data: {x: '1', yy: '1', w: '1', v: '1'}}");
    let text = s.conflicts("n", "{data: {x: '2', yy: '2', w: '2'}}");
    assert_eq!(
        text,
        "Apply failed with 3 conflicts: conflicts with \"c\" with subresource \"status\" using v1:\n- .data.w\nconflicts with \"z\":\n- .data.x\n- .data.yy"
    );
}

#[test]
fn an_owned_field_does_not_conflict_when_it_is_removed_by_its_owner() {
    let mut s = config_map();
    s.apply("a", "{data: {x: '1', yy: '1'}}").unwrap();
    s.update("b", "{data: {yy: '1'}}");
    s.owned(&[r#"a Apply {"f:data":{"f:yy":{}}}"#]);
    s.apply("a", "{data: {x: '1', yy: '1'}}").unwrap();
    s.shows("{data: {x: '1', yy: '1'}}");
}

#[test]
fn elements_of_keyed_lists_come_and_go_one_by_one() {
    let mut s = pod();
    s.apply(
        "a",
        "{spec: {containers: [{name: x, image: '1'}, {name: yy, image: '1'}]}}",
    )
    .unwrap();
    s.apply("b", "{spec: {containers: [{name: z, image: '1'}]}}")
        .unwrap();
    s.shows("{spec: {containers: [{name: x, image: '1'}, {name: yy, image: '1'}, {name: z, image: '1'}]}}");
    s.apply("a", "{spec: {containers: [{name: yy, image: '2'}]}}")
        .unwrap();
    s.shows("{spec: {containers: [{name: yy, image: '2'}, {name: z, image: '1'}]}}");
    s.owned(&[
        r#"a Apply {"f:spec":{"f:containers":{"k:{\"name\":\"yy\"}":{".":{},"f:image":{},"f:name":{}}}}}"#,
        r#"b Apply {"f:spec":{"f:containers":{"k:{\"name\":\"z\"}":{".":{},"f:image":{},"f:name":{}}}}}"#,
    ]);
}

#[test]
fn an_element_goes_with_its_owner_whatever_others_own_in_it() {
    let mut s = pod();
    s.apply(
        "a",
        "{spec: {containers: [{name: x, image: '1'}, {name: w, image: '1'}]}}",
    )
    .unwrap();
    s.update(
        "b",
        "{spec: {containers: [{name: x, image: '1', workingDir: /w}, {name: w, image: '1'}]}}",
    );
    s.apply("a", "{spec: {containers: [{name: w, image: '1'}]}}")
        .unwrap();
    s.shows("{spec: {containers: [{name: w, image: '1'}]}}");
    s.owned(&[
        r#"a Apply {"f:spec":{"f:containers":{"k:{\"name\":\"w\"}":{".":{},"f:image":{},"f:name":{}}}}}"#,
    ]);
}

#[test]
fn the_order_of_a_merged_list_follows_the_applied_one() {
    let names = |s: &Story| -> Vec<String> {
        s.live
            .at(&["spec", "containers"])
            .and_then(crate::Value::as_list)
            .unwrap()
            .iter()
            .map(|c| {
                c.get("name")
                    .and_then(crate::Value::as_str)
                    .unwrap()
                    .to_owned()
            })
            .collect()
    };
    let body = |names: &str| {
        let list: Vec<String> = names.chars().map(|c| format!("{{name: {c}}}")).collect();
        format!("{{spec: {{containers: [{}]}}}}", list.join(", "))
    };
    for (live, applied, merged) in [
        ("abc", "abc", "abc"),
        ("abc", "cba", "cba"),
        ("abc", "bd", "abcd"),
        ("abcd", "dxa", "bcdxa"),
        ("ab", "xw", "abxw"),
        ("abcde", "eb", "acdeb"),
    ] {
        let mut s = pod();
        s.update("u", &body(live));
        s.apply("a", &body(applied)).unwrap();
        assert_eq!(names(&s).concat(), merged, "{live} with {applied}");
    }
}

#[test]
fn a_default_key_finds_the_element_that_has_it() {
    let mut s = pod();
    s.update("u", "{spec: {containers: [{name: c, ports: [{containerPort: 53, protocol: TCP}, {containerPort: 53, protocol: UDP}]}]}}");
    s.apply(
        "a",
        "{spec: {containers: [{name: c, ports: [{containerPort: 53, name: dns}]}]}}",
    )
    .unwrap();
    s.shows("{spec: {containers: [{name: c, ports: [{containerPort: 53, protocol: TCP, name: dns}, {containerPort: 53, protocol: UDP}]}]}}");
    let ports = |s: &Story| {
        let applied = s
            .managed
            .entries()
            .iter()
            .find(|e| e.manager == "a")
            .unwrap();
        applied.set.paths()
    };
    assert!(ports(&s).contains(
        &r#".spec.containers[name="c"].ports[containerPort=53,protocol="TCP"].name"#.to_owned()
    ));
}

#[test]
fn sets_are_merged_value_by_value() {
    let mut s = Story::of("v1", "Namespace");
    s.update("u", "{metadata: {finalizers: [a]}}");
    s.apply("m", "{metadata: {finalizers: [b, c]}}").unwrap();
    s.shows("{metadata: {finalizers: [a, b, c]}}");
    s.apply("m", "{metadata: {finalizers: [c]}}").unwrap();
    s.shows("{metadata: {finalizers: [a, c]}}");
}

#[test]
fn atomic_lists_and_maps_are_replaced_whole() {
    let mut s = pod();
    s.apply(
        "a",
        "{spec: {nodeSelector: {x: '1'}, tolerations: [{key: k}]}}",
    )
    .unwrap();
    s.apply(
        "a",
        "{spec: {nodeSelector: {yy: '1'}, tolerations: [{key: l}]}}",
    )
    .unwrap();
    s.shows("{spec: {nodeSelector: {yy: '1'}, tolerations: [{key: l}]}}");
    s.owned(&[r#"a Apply {"f:spec":{"f:nodeSelector":{},"f:tolerations":{}}}"#]);
    let text = s.conflicts("b", "{spec: {nodeSelector: {z: '1'}}}");
    assert_eq!(
        text,
        "Apply failed with 1 conflict: conflict with \"a\": .spec.nodeSelector"
    );
}

#[test]
fn what_existed_before_the_first_apply_has_an_owner_of_its_own() {
    let mut s = config_map();
    s.live = s
        .typed
        .conform(&s.tree("{metadata: {uid: u, name: nm}, data: {x: '1'}}"));
    // Not tracked so far: updates keep it so.
    s.update("b", "{metadata: {name: nm}, data: {x: '2'}}");
    s.owned(&[]);
    let text = s.conflicts("a", "{data: {x: '3'}}");
    assert_eq!(
        text,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.x"
    );
    s.apply("a", "{data: {x: '2', yy: '1'}}").unwrap();
    s.owned(&[
        r#"a Apply {"f:data":{"f:x":{},"f:yy":{}}}"#,
        r#"before-first-apply Update {"f:data":{".":{},"f:x":{}}}"#,
    ]);
}

#[test]
fn a_noop_keeps_times() {
    let mut s = config_map();
    s.apply("a", "{data: {x: '1'}}").unwrap();
    let before = s.managed.clone();
    s.apply("a", "{data: {x: '1'}}").unwrap();
    assert_eq!(s.managed, before);
    s.update("b", "{data: {x: '1'}}");
    assert_eq!(s.managed, before);
}

#[test]
fn kubectl_takes_over_what_it_applied_on_the_client() {
    let last = |x: &str| {
        format!(
            r#"{{metadata: {{annotations: {{kubectl.kubernetes.io/last-applied-configuration: '{{"apiVersion":"v1","kind":"ConfigMap","data":{{"x":"{x}"}}}}'}}}}, data: {{x: '1'}}}}"#
        )
    };
    let mut s = config_map();
    s.update("kubectl-client-side-apply", &last("1"));
    s.apply("kubectl", "{data: {x: '2'}}").unwrap();
    // Others do not look at the annotation.
    let mut s = config_map();
    s.update("kubectl-client-side-apply", &last("1"));
    s.conflicts("other", "{data: {x: '2'}}");
    // What has changed since is not excused.
    let mut s = config_map();
    s.update("kubectl-client-side-apply", &last("0"));
    s.conflicts("kubectl", "{data: {x: '2'}}");
}

#[test]
fn metadata_that_the_server_keeps_has_no_owner() {
    let mut s = config_map();
    s.apply(
        "a",
        "{metadata: {name: nm, namespace: ns, uid: u, resourceVersion: '1', labels: {l: v}}}",
    )
    .unwrap();
    s.owned(&[r#"a Apply {"f:metadata":{"f:labels":{"f:l":{}}}}"#]);
}

#[test]
fn entries_of_versions_that_are_gone_are_dropped() {
    let mut s = deployment();
    s.apply("a", "{spec: {replicas: 1}}").unwrap();
    s.managed.entries[0].api_version = "extensions/v1beta1".to_owned();
    s.update("b", "{spec: {replicas: 1, paused: true}}");
    s.owned(&[r#"b Update {"f:spec":{"f:paused":{}}}"#]);
}

#[test]
fn fields_of_another_version_are_followed() {
    let mut s = Story::of("autoscaling/v1", "HorizontalPodAutoscaler");
    let body = "{spec: {maxReplicas: 3, targetCPUUtilizationPercentage: 50, scaleTargetRef: {kind: D, name: d}}}";
    s.apply("a", body).unwrap();
    let v1 = s.typed.message;
    s.typed = Story::of("autoscaling/v2", "HorizontalPodAutoscaler").typed;
    s.live = crate::convert::convert(s.live.clone(), v1, s.typed.message).unwrap();
    s.update("b", "{spec: {maxReplicas: 4, scaleTargetRef: {kind: D, name: d}, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}}");
    s.owned(&[
        r#"a Apply {"f:spec":{"f:scaleTargetRef":{},"f:targetCPUUtilizationPercentage":{}}}"#,
        r#"b Update {"f:spec":{"f:maxReplicas":{}}}"#,
    ]);
}

#[test]
fn ownership_follows_types_that_became_atomic() {
    let mut s = pod();
    s.apply("a", "{spec: {nodeSelector: {x: '1'}}}").unwrap();
    s.managed.entries[0].set =
        crate::apply::Set::parse(br#"{"f:spec":{"f:nodeSelector":{"f:x":{}}}}"#).unwrap();
    s.update("b", "{spec: {nodeSelector: {x: '1'}, nodeName: nm}}");
    s.owned(&[
        r#"a Apply {"f:spec":{"f:nodeSelector":{}}}"#,
        r#"b Update {"f:spec":{"f:nodeName":{}}}"#,
    ]);
}

#[test]
fn a_configuration_that_does_not_fit_is_refused_in_upstreams_words() {
    let fails = |mut s: Story, body: &str| match s.apply("a", body) {
        Err(Error::Object(text) | Error::Request(text)) => text,
        other => panic!("{body}: {other:?}"),
    };
    let named = |body: &str| {
        fails(
            deployment(),
            &format!("{{metadata: {{name: nm, namespace: ns}}, spec: {body}}}"),
        )
    };
    let head = "failed to create typed patch object (ns/nm; apps/v1, Kind=Deployment): ";
    for (body, problem) in [
        ("{x: 1}", ".spec.x: field not declared in schema"),
        (
            "{replicas: a}",
            ".spec.replicas: expected numeric (int or float), got string",
        ),
        ("{paused: 1}", ".spec.paused: expected boolean, got &{1}"),
        ("{template: []}", ".spec.template: expected map, got &{[]}"),
        (
            "{template: {spec: {containers: {}}}}",
            ".spec.template.spec.containers: expected list, got &{map[]}",
        ),
        (
            "{template: {spec: {containers: [{name: c, image: 1}]}}}",
            ".spec.template.spec.containers[name=\"c\"].image: expected string, got &value.valueUnstructured{Value:1}",
        ),
        (
            "{template: {spec: {containers: [{name: c}, {name: c}]}}}",
            ".spec.template.spec.containers: duplicate entries for key [name=\"c\"]",
        ),
        (
            "{template: {spec: {containers: [1]}}}",
            ".spec.template.spec.containers: element 0: associative list with keys may not have non-map elements",
        ),
        (
            "{paused: 1, replicas: a}",
            "errors:\n  .spec.paused: expected boolean, got &{1}\n  .spec.replicas: expected numeric (int or float), got string",
        ),
    ] {
        assert_eq!(named(body), format!("{head}{problem}"));
    }
    assert_eq!(
        fails(config_map(), "{metadata: {managedFields: []}}"),
        "metadata.managedFields must be nil"
    );
    let mut s = config_map();
    let config = super::yaml("{apiVersion: apps/v1, kind: Deployment}");
    let configuration = crate::apply::Configuration {
        object: &config,
        manager: "a",
        force: false,
        now: "",
    };
    let live = std::mem::take(&mut s.live);
    let error = s.typed.subject("", |t| {
        crate::apply::apply(t, &live, Default::default(), &configuration).err()
    });
    assert_eq!(
        error,
        Some(Error::Request(
            "invalid object type: apps/v1, Kind=Deployment".to_owned()
        ))
    );
}

#[test]
fn null_clears_a_value_that_is_applied() {
    let mut s = deployment();
    s.update("u", "{spec: {replicas: 3}}");
    s.force("a", "{spec: {replicas: null}}");
    s.shows("{spec: {}}");
    s.owned(&[r#"a Apply {"f:spec":{"f:replicas":{}}}"#]);
}
