use proto::MsgId;
use proto::catalogue::messages::core_v1;
use proto::codec::json::{self, Strictness};

use super::super::testing::Asked as Asking;
use super::*;

fn decode(text: &str, message: MsgId) -> Value {
    json::decode(text.as_bytes(), message, Strictness::Strict)
        .expect("the test's JSON is valid")
        .value
}

fn quota(spec: &str, hard: &str, used: &str) -> Value {
    let text = format!(
        r#"{{"metadata":{{"name":"q"}},"spec":{spec},"status":{{"hard":{hard},"used":{used}}}}}"#
    );
    decode(&text, core_v1::RESOURCE_QUOTA)
}

fn pod(spec: &str) -> Value {
    decode(&format!(r#"{{"spec":{spec}}}"#), core_v1::POD)
}

const CPU: &str = r#"{"containers":[{"name":"a","resources":{"requests":{"cpu":"500m","nvidia.com/gpu":"2"},"limits":{"cpu":"1"}}}]}"#;

fn asked<'a>(resource: &str, object: &'a Value, old: Option<&'a Value>) -> Asked<'a> {
    let measure = Measure::of("", resource, true).unwrap();
    let usage = measure.usage(object, 0);
    let old = old.map(|old| (old, measure.usage(old, 0)));
    Asked {
        measure,
        object,
        usage,
        old,
        is_status: false,
    }
}

/// What is used afterwards, or the refusal.
fn charged(asked: &Asked<'_>, quota: &Value) -> String {
    match asked.charge(quota) {
        Ok(None) => String::new(),
        Ok(Some(used)) => used
            .iter()
            .map(|(name, q)| format!("{name}={q}"))
            .collect::<Vec<_>>()
            .join(","),
        Err(why) => why,
    }
}

#[test]
fn a_pod_is_charged_for_what_the_quota_counts() {
    let pod = pod(CPU);
    let asked = asked("pods", &pod, None);
    let fits = quota(
        "{}",
        r#"{"cpu":"2","limits.cpu":"2","pods":"3","requests.nvidia.com/gpu":"4","secrets":"1"}"#,
        r#"{"cpu":"1","limits.cpu":"0","pods":"2","requests.nvidia.com/gpu":"0","secrets":"1"}"#,
    );
    assert_eq!(
        charged(&asked, &fits),
        "cpu=1500m,limits.cpu=1,pods=3,requests.nvidia.com/gpu=2,secrets=1"
    );
    assert_eq!(
        charged(&asked, &quota("{}", r#"{"secrets":"1"}"#, "{}")),
        "",
        "not about pods"
    );
}

#[test]
fn what_does_not_fit_is_refused_with_the_sums() {
    let pod = pod(CPU);
    let asked = asked("pods", &pod, None);
    let full = quota(
        "{}",
        r#"{"cpu":"1","pods":"9"}"#,
        r#"{"cpu":"600m","pods":"1"}"#,
    );
    assert_eq!(
        charged(&asked, &full),
        "exceeded quota: q, requested: cpu=500m, used: cpu=600m, limited: cpu=1"
    );
    let exact = quota("{}", r#"{"cpu":"1"}"#, r#"{"cpu":"500m"}"#);
    assert_eq!(charged(&asked, &exact), "cpu=1");
    let unknown = quota("{}", r#"{"cpu":"1"}"#, "{}");
    assert_eq!(
        charged(&asked, &unknown),
        "status unknown for quota: q, resources: cpu"
    );
}

#[test]
fn containers_must_ask_for_what_is_counted() {
    let pod =
        pod(r#"{"containers":[{"name":"b"},{"name":"a","resources":{"requests":{"cpu":"1"}}}]}"#);
    let asked = asked("pods", &pod, None);
    let both = quota(
        "{}",
        r#"{"cpu":"9","limits.memory":"1Gi"}"#,
        r#"{"cpu":"0","limits.memory":"0"}"#,
    );
    assert_eq!(
        charged(&asked, &both),
        "failed quota: q: must specify cpu for: b; limits.memory for: a,b"
    );
}

#[test]
fn scopes_narrow_a_quota_down() {
    let plain = pod(CPU);
    let says = |spec: &str| {
        charged(
            &asked("pods", &plain, None),
            &quota(spec, r#"{"pods":"1"}"#, r#"{"pods":"0"}"#),
        )
    };
    assert_eq!(
        says(r#"{"scopes":["NotTerminating","NotBestEffort"]}"#),
        "pods=1"
    );
    assert_eq!(says(r#"{"scopes":["Terminating"]}"#), "");
    assert_eq!(says(r#"{"scopes":["BestEffort"]}"#), "");
    assert_eq!(says(r#"{"scopes":["CrossNamespacePodAffinity"]}"#), "");
    let selector = |operator: &str| {
        format!(
            r#"{{"scopeSelector":{{"matchExpressions":[{{"scopeName":"PriorityClass","operator":"{operator}","values":["high"]}}]}}}}"#
        )
    };
    assert_eq!(says(&selector("In")), "");
    assert_eq!(says(&selector("NotIn")), "pods=1");
    let high = pod(r#"{"priorityClassName":"high"}"#);
    assert_eq!(
        charged(
            &asked("pods", &high, None),
            &quota(&selector("In"), r#"{"pods":"1"}"#, r#"{"pods":"0"}"#)
        ),
        "pods=1"
    );
}

#[test]
fn an_update_is_charged_for_what_it_adds() {
    let claim = |size: &str| {
        decode(
            &format!(
                r#"{{"spec":{{"storageClassName":"fast","resources":{{"requests":{{"storage":"{size}"}}}}}}}}"#
            ),
            core_v1::PERSISTENT_VOLUME_CLAIM,
        )
    };
    let (small, large) = (claim("1Gi"), claim("3Gi"));
    let quota = quota(
        "{}",
        r#"{"requests.storage":"10Gi","fast.storageclass.storage.k8s.io/requests.storage":"10Gi","persistentvolumeclaims":"1"}"#,
        r#"{"requests.storage":"5Gi","fast.storageclass.storage.k8s.io/requests.storage":"5Gi","persistentvolumeclaims":"1"}"#,
    );
    let grown = charged(
        &asked("persistentvolumeclaims", &large, Some(&small)),
        &quota,
    );
    assert_eq!(
        grown,
        "fast.storageclass.storage.k8s.io/requests.storage=7Gi,persistentvolumeclaims=1,requests.storage=7Gi"
    );
    assert_eq!(
        charged(
            &asked("persistentvolumeclaims", &small, Some(&large)),
            &quota
        ),
        "",
        "less is given back by the controller"
    );
}

#[test]
fn services_count_what_they_will_allocate() {
    let service = decode(
        r#"{"spec":{"type":"LoadBalancer","ports":[{"port":1},{"port":2}]}}"#,
        core_v1::SERVICE,
    );
    let quota = quota(
        "{}",
        r#"{"services.nodeports":"1","services.loadbalancers":"1"}"#,
        r#"{"services.nodeports":"0","services.loadbalancers":"0"}"#,
    );
    let said = charged(&asked("services", &service, None), &quota);
    assert_eq!(
        said,
        "exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1"
    );
}

#[test]
fn other_objects_are_counted() {
    assert_eq!(
        Measure::of("apps", "deployments", true),
        Some(Measure::Count(vec!["count/deployments.apps".into()]))
    );
    assert_eq!(
        Measure::of("", "secrets", true),
        Some(Measure::Count(vec![
            "count/secrets".into(),
            "secrets".into()
        ]))
    );
    assert_eq!(Measure::of("", "events", true), None);
}

#[test]
fn a_namespace_has_one_lock_while_somebody_holds_it() {
    let locks = Locks::default();
    let first = locks.of("a");
    assert!(Arc::ptr_eq(&first, &locks.of("a")) && !Arc::ptr_eq(&first, &locks.of("b")));
    drop(first);
    let _other = locks.of("c");
    assert_eq!(locks.0.lock().len(), 1, "locks that nobody holds go");
}

fn limited(rules: &str) -> Limited {
    let text = format!(
        r#"{{"apiVersion":"apiserver.config.k8s.io/v1","kind":"ResourceQuotaConfiguration","limitedResources":{rules}}}"#
    );
    Limited::read(Some(text.as_bytes())).unwrap()
}

#[test]
fn what_is_limited_needs_a_quota_that_covers_it() {
    let says = |rules: &str, object: &Value, old: Option<&Value>, quotas: &[Value]| {
        let mut write = Asking::create("pods", object.clone());
        let limited = limited(rules);
        let asked = asked("pods", object, old);
        let outcome = write.ask(|write| asked.covered(&limited, quotas, write));
        outcome
            .err()
            .map_or_else(String::new, |f| f.message().to_owned())
    };
    let pod = pod(CPU);
    let gpus = r#"[{"resource":"pods","matchContains":["nvidia.com/"]}]"#;
    let cpu = quota("{}", r#"{"cpu":"9"}"#, r#"{"cpu":"0"}"#);
    let gpu = quota("{}", r#"{"requests.nvidia.com/gpu":"9"}"#, "{}");
    let said = "pods \"name\" is forbidden: insufficient quota to consume: requests.nvidia.com/gpu";
    assert_eq!(says(gpus, &pod, None, &[]), said);
    assert_eq!(says(gpus, &pod, None, std::slice::from_ref(&cpu)), said);
    assert_eq!(says(gpus, &pod, None, &[cpu, gpu]), "");
    assert_eq!(says(gpus, &pod, Some(&pod), &[]), "", "it takes no more");
    let others = gpus.replace("pods", "services");
    assert_eq!(says(&others, &pod, None, &[]), "");

    let high = self::pod(r#"{"priorityClassName":"high"}"#);
    let class = r#"{"scopeName":"PriorityClass","operator":"In","values":["high"]}"#;
    let classes = format!(r#"[{{"resource":"pods","matchScopes":[{class}]}}]"#);
    assert_eq!(
        says(&classes, &high, None, &[]),
        "insufficient quota to match these scopes: [{PriorityClass In [high]}]"
    );
    let scoped = |class: &str| {
        let spec = format!(r#"{{"scopeSelector":{{"matchExpressions":[{class}]}}}}"#);
        quota(&spec, r#"{"pods":"1"}"#, "{}")
    };
    assert_eq!(says(&classes, &high, None, &[scoped(class)]), "");
    let low = scoped(&class.replace("high", "low"));
    assert!(says(&classes, &high, None, &[low]).contains("PriorityClass"));
    assert_eq!(says(&classes, &pod, None, &[]), "");
}

#[test]
fn a_rule_names_its_resource() {
    let read = |text: &str| Limited::read(Some(text.as_bytes())).map(|limited| limited.is_empty());
    let older = "apiVersion: resourcequota.admission.k8s.io/v1beta1\nkind: Configuration\n";
    assert!(read(older).unwrap());
    assert!(!read(&format!("{older}limitedResources: [{{resource: pods}}]")).unwrap());
    let nameless = read(&format!("{older}limitedResources: [{{}}]")).unwrap_err();
    assert_eq!(
        nameless.to_string(),
        "limitedResources[0].resource: Required value"
    );
    assert!(read("apiVersion: v1\nkind: Configuration\n").is_err());
    assert!(Limited::read(None).unwrap().is_empty());
}
