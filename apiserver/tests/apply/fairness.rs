//! Priority and fairness: what is there from the beginning, who is refused, who waits for whom.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::config_map;
use super::daemon::{Daemon, User, eventually};
use super::wire::Wire;

const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Users who may do everything, but are not exempt.
async fn allow(api: &Daemon, names: &[&str]) {
    let subjects: Vec<Value> = names
        .iter()
        .map(|n| json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": n}))
        .collect();
    let binding = json!({
        "metadata": {"name": "tenants"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": subjects,
    });
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    let (code, answer) = api.send("POST", path, &binding).await;
    assert_eq!(code, 201, "{answer}");
}

/// A level of its own for some users, and the UIDs of the schema and the level.
async fn level(api: &Daemon, users: &[&str], limited: Value) -> (String, String) {
    let level = json!({
        "metadata": {"name": "tenants"},
        "spec": {"type": "Limited", "limited": limited},
    });
    let path = format!("{GROUP}/prioritylevelconfigurations");
    let (code, level) = api.send("POST", &path, &level).await;
    assert_eq!(code, 201, "{level}");
    let subjects: Vec<Value> = users
        .iter()
        .map(|u| json!({"kind": "User", "user": {"name": u}}))
        .collect();
    let schema = json!({
        "metadata": {"name": "tenants"},
        "spec": {
            "matchingPrecedence": 50,
            "priorityLevelConfiguration": {"name": "tenants"},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": subjects,
                "resourceRules": [{
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                    "namespaces": ["*"], "clusterScope": true,
                }],
            }],
        },
    });
    let (code, schema) = api
        .send("POST", &format!("{GROUP}/flowschemas"), &schema)
        .await;
    assert_eq!(code, 201, "{schema}");
    let uid = |o: &Value| o["metadata"]["uid"].as_str().unwrap().to_owned();
    let uids = (uid(&schema), uid(&level));
    eventually("the schema is in use", async || {
        header(&head(api, users[0], MAPS).await, MARKS[0]).as_deref() == Some(&uids.0)
    })
    .await;
    uids
}

const MARKS: [&str; 2] = [
    "x-kubernetes-pf-flowschema-uid",
    "x-kubernetes-pf-prioritylevel-uid",
];

/// The head of the answer to a GET of somebody.
async fn head(api: &Daemon, user: &str, path: &str) -> String {
    let mut wire = Wire::admin(api).await;
    let headers = [&*format!("Impersonate-User: {user}"), "Connection: close"];
    wire.ask(&format!("GET {path}"), &headers, "").await
}

fn header(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines();
    lines.find_map(|l| Some(l.strip_prefix(name)?.strip_prefix(": ")?.to_owned()))
}

/// A write that has its seat and does not end, since its body does not come.
async fn unfinished(api: &Daemon, user: &str) -> Wire {
    let mut wire = Wire::admin(api).await;
    let head = format!(
        "POST {MAPS} HTTP/1.1\r\nHost: api.example\r\nImpersonate-User: {user}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    wire.send(head.as_bytes()).await;
    wire
}

/// The value of a series of the test's level.
async fn metric(api: &Daemon, name: &str) -> Option<f64> {
    let text = api.text("/metrics").await;
    let head = format!("apiserver_flowcontrol_{name}{{");
    let line = text
        .lines()
        .find(|l| l.starts_with(&head) && l.contains("priority_level=\"tenants\""))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|o| o["metadata"]["name"].as_str().unwrap())
        .collect()
}

fn condition(schema: &Value) -> Value {
    schema["status"]["conditions"][0].clone()
}

#[tokio::test]
async fn a_cluster_has_upstreams_schemas_and_levels() {
    let api = Daemon::start().await;
    let (_, levels) = api
        .get(&format!("{GROUP}/prioritylevelconfigurations"))
        .await;
    assert_eq!(
        names(&levels),
        [
            "catch-all",
            "exempt",
            "global-default",
            "leader-election",
            "node-high",
            "system",
            "workload-high",
            "workload-low"
        ]
    );
    let (_, schemas) = api.get(&format!("{GROUP}/flowschemas")).await;
    assert_eq!(
        names(&schemas),
        [
            "catch-all",
            "exempt",
            "global-default",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-system-service-accounts",
            "probes",
            "service-accounts",
            "system-leader-election",
            "system-node-high",
            "system-nodes"
        ]
    );
    let (_, level) = api
        .get(&format!("{GROUP}/prioritylevelconfigurations/workload-low"))
        .await;
    assert_eq!(
        level["spec"],
        json!({"type": "Limited", "limited": {
            "nominalConcurrencyShares": 100, "lendablePercent": 90,
            "limitResponse": {"type": "Queue", "queuing": {
                "queues": 128, "handSize": 6, "queueLengthLimit": 50,
            }},
        }})
    );
    assert_eq!(
        level["metadata"]["annotations"],
        json!({"apf.kubernetes.io/autoupdate-spec": "true"})
    );
    let path = format!("{GROUP}/flowschemas/system-leader-election");
    let (_, schema) = api.get(&path).await;
    assert_eq!(
        schema["spec"],
        json!({
            "priorityLevelConfiguration": {"name": "leader-election"},
            "matchingPrecedence": 100,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [{
                "subjects": [
                    {"kind": "User", "user": {"name": "system:kube-controller-manager"}},
                    {"kind": "User", "user": {"name": "system:kube-scheduler"}},
                    {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}},
                ],
                "resourceRules": [{
                    "verbs": ["get", "create", "update"], "apiGroups": ["coordination.k8s.io"],
                    "resources": ["leases"], "namespaces": ["*"],
                }],
            }],
        })
    );
    eventually("the status is written", async || {
        condition(&api.get(&path).await.1)["status"] == "False"
    })
    .await;
    let (_, schema) = api.get(&path).await;
    let condition = condition(&schema);
    assert_eq!(condition["type"], "Dangling");
    assert_eq!(condition["reason"], "Found");
    assert_eq!(
        condition["message"],
        "This FlowSchema references the PriorityLevelConfiguration object named \"leader-election\" and it exists"
    );
    let managers = schema["metadata"]["managedFields"].as_array().unwrap();
    let mut managers: Vec<String> = managers
        .iter()
        .map(|m| format!("{} {} {}", m["manager"], m["operation"], m["subresource"]))
        .collect();
    managers.sort();
    assert_eq!(
        managers,
        [
            r#""api-priority-and-fairness-config-consumer-v1" "Apply" "status""#,
            r#""api-priority-and-fairness-config-producer-v1" "Update" null"#
        ]
    );
    // Nothing is written again that is right.
    let text = api.text("/readyz?verbose").await;
    assert!(text.contains("[+]poststarthook/priority-and-fairness-config-producer ok"));
}

#[tokio::test]
async fn what_is_deleted_comes_back_and_schemas_tell_of_it_meanwhile() {
    let api = Daemon::start().await;
    let level = format!("{GROUP}/prioritylevelconfigurations/workload-low");
    let schema = format!("{GROUP}/flowschemas/service-accounts");
    let dangling = async |status: &str| condition(&api.get(&schema).await.1)["status"] == status;
    eventually("it does not dangle", async || dangling("False").await).await;
    let (_, before) = api.get(&level).await;
    let (code, _) = api.send("DELETE", &level, &json!({})).await;
    assert_eq!(code, 200);
    eventually("it dangles", async || dangling("True").await).await;
    eventually("it comes back", async || api.get(&level).await.0 == 200).await;
    let (_, after) = api.get(&level).await;
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(after["spec"], before["spec"]);
    eventually("it does not dangle any more", async || {
        dangling("False").await
    })
    .await;
}

#[tokio::test]
async fn a_request_without_a_seat_is_refused_and_told_when_to_come_again() {
    let api = Daemon::start().await;
    allow(&api, &["tenant"]).await;
    let (schema, level) = level(
        &api,
        &["tenant"],
        json!({
            "nominalConcurrencyShares": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"},
        }),
    )
    .await;
    // A level without seats works on one request at a time.
    let answer = head(&api, "tenant", MAPS).await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    let held = unfinished(&api, "tenant").await;
    eventually("the write has its seat", async || {
        metric(&api, "current_executing_requests").await == Some(1.0)
    })
    .await;
    let mut wire = Wire::admin(&api).await;
    let headers = ["Impersonate-User: tenant", "Connection: close"];
    let answer = wire.ask(&format!("GET {MAPS}"), &headers, "").await;
    assert!(answer.starts_with("http/1.1 429"), "{answer}");
    assert_eq!(header(&answer, "retry-after").as_deref(), Some("1"));
    assert_eq!(header(&answer, MARKS[0]), Some(schema));
    assert_eq!(header(&answer, MARKS[1]), Some(level));
    let content = header(&answer, "content-type");
    assert_eq!(content.as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(
        wire.rest().await,
        "Too many requests, please try again later.\n"
    );
    assert_eq!(metric(&api, "rejected_requests_total").await, Some(1.0));
    // Others do not notice.
    let answer = head(&api, "somebody", "/version").await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    // What is going on can be seen.
    let debug = "/debug/api_priority_and_fairness";
    let dump = api
        .text(&format!("{debug}/dump_requests?includeRequestDetails=1"))
        .await;
    let row = dump.lines().find(|l| l.starts_with("tenants,")).unwrap();
    assert!(row.starts_with("tenants,\ttenants,\t-1,\t-1,\t"), "{row}");
    let end = format!("tenant,\tcreate,\t{MAPS},\tdefault,\t,\tv1,\tconfigmaps,\t");
    assert!(row.ends_with(&end), "{row}");
    let dump = api.text(&format!("{debug}/dump_priority_levels")).await;
    assert!(
        dump.contains("\ntenants,\t0,\tfalse,\tfalse,\t0,\t1,\t"),
        "{dump}"
    );
    assert!(
        api.text(&format!("{debug}/dump_queues"))
            .await
            .lines()
            .count()
            > 500
    );
    // Who goes away gives the seat back.
    drop(held);
    eventually("the seat is free", async || {
        head(&api, "tenant", MAPS).await.starts_with("http/1.1 200")
    })
    .await;
}

#[tokio::test]
async fn a_request_waits_for_a_quarter_of_its_time() {
    let api = Daemon::start().await;
    allow(&api, &["tenant"]).await;
    level(
        &api,
        &["tenant"],
        json!({
            "nominalConcurrencyShares": 1, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Queue", "queuing": {
                "queues": 1, "handSize": 1, "queueLengthLimit": 10,
            }},
        }),
    )
    .await;
    let seats = metric(&api, "current_limit_seats").await.unwrap() as usize;
    let mut held = Vec::new();
    for _ in 0..seats {
        held.push(unfinished(&api, "tenant").await);
    }
    eventually("all seats are taken", async || {
        metric(&api, "current_executing_requests").await == Some(seats as f64)
    })
    .await;
    let start = Instant::now();
    let answer = head(&api, "tenant", &format!("{MAPS}?timeout=4s")).await;
    let waited = start.elapsed();
    assert!(answer.starts_with("http/1.1 429"), "{answer}");
    assert!(waited >= Duration::from_millis(900), "{waited:?}");
    assert!(waited < Duration::from_secs(3), "{waited:?}");
    // One that waits gets the first seat that comes free.
    let (answer, ()) = tokio::join!(head(&api, "tenant", MAPS), async {
        eventually("it waits", async || {
            metric(&api, "current_inqueue_requests").await == Some(1.0)
        })
        .await;
        held.pop();
    });
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert_eq!(metric(&api, "current_inqueue_requests").await, Some(0.0));
}

#[tokio::test]
async fn watches_have_seats_until_they_have_sent_what_there_is() {
    let api = Daemon::start().await;
    allow(&api, &["tenant"]).await;
    level(
        &api,
        &["tenant"],
        json!({
            "nominalConcurrencyShares": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"},
        }),
    )
    .await;
    let (code, _) = api.send("POST", MAPS, &config_map("a", json!({}))).await;
    assert_eq!(code, 201);
    let mut watches = Vec::new();
    // There is one seat, and there are many watches: empty ones and ones that begin with objects.
    for path in [
        MAPS,
        "/api/v1/namespaces/empty/secrets",
        MAPS,
        "/api/v1/nodes",
    ] {
        let mut wire = Wire::admin(&api).await;
        let line = format!("GET {path}?watch=1");
        let answer = wire.ask(&line, &["Impersonate-User: tenant"], "").await;
        assert!(answer.starts_with("http/1.1 200"), "{answer}");
        assert!(header(&answer, MARKS[0]).is_some(), "{answer}");
        watches.push(wire);
        eventually("its seat is free", async || {
            metric(&api, "current_executing_seats").await == Some(0.0)
        })
        .await;
    }
    let text = api.text("/metrics").await;
    let open = text
        .lines()
        .filter(|l| l.starts_with("apiserver_longrunning_requests{"))
        .filter(|l| l.contains("verb=\"WATCH\""))
        .filter_map(|l| l.rsplit(' ').next()?.parse::<usize>().ok());
    assert!(open.sum::<usize>() >= watches.len());
    let answer = head(&api, "tenant", MAPS).await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
}

/// How long each of some requests took, one after the other, in order of length.
async fn times(user: &User, path: &str, count: usize) -> Vec<Duration> {
    let mut all = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        assert_eq!(user.get(path).await.0, 200);
        all.push(start.elapsed());
    }
    all.sort();
    all
}

/// Prints what one tenant notices of another, and writes it down where the environment asks for that (`hack/bench identity`).
fn figures(flood: usize, [alone, beside, flooded]: [Duration; 3]) {
    let ms = |of: Duration| format!("{:.1} ms", of.as_secs_f64() * 1e3);
    let text = format!(
        "# Figures: a tenant beside one who floods\n\n\
         Written by `hack/bench identity`: a level of few seats, {flood} callers of one tenant who list a megabyte again and again, and \
         one of another who reads an object of a tenth of that. The middle of all times.\n\n\
         | who | time |\n|---|---:|\n| the other tenant, alone | {} |\n| the same, beside the flood | {} |\n| the flood | {} |\n",
        ms(alone),
        ms(beside),
        ms(flooded)
    );
    println!("{text}");
    if let Some(dir) = std::env::var_os("NAVARCH_FIGURES") {
        std::fs::write(std::path::Path::new(&dir).join("fairness.md"), text).unwrap();
    }
}

/// What the flood reads is read beside the other tenant's work, not in one task with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_tenant_that_floods_does_not_slow_another() {
    const FLOOD: usize = 60;
    let api = Daemon::start_with(|_| {
        // Few seats, so that a level is full before this machine is.
        vec![
            "--max-requests-inflight=20".to_owned(),
            "--max-mutating-requests-inflight=4".to_owned(),
        ]
    })
    .await;
    allow(&api, &["flood", "calm"]).await;
    level(
        &api,
        &["flood", "calm"],
        json!({
            "nominalConcurrencyShares": 10, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Queue", "queuing": {
                "queues": 64, "handSize": 2, "queueLengthLimit": 100,
            }},
        }),
    )
    .await;
    let text = "x".repeat(100_000);
    for i in 0..10 {
        let map = config_map(&format!("m{i}"), json!({"text": text}));
        assert_eq!(api.send("POST", MAPS, &map).await.0, 201);
    }
    let calm = api.acting_as("calm");
    let one = format!("{MAPS}/m0");
    let alone = times(&calm, &one, 20).await;
    let flood = Arc::new(api.acting_as("flood"));
    let stop = CancellationToken::new();
    let flooding = JoinSet::from_iter((0..FLOOD).map(|_| {
        let (flood, stop) = (Arc::clone(&flood), stop.clone());
        async move {
            let mut all = Vec::new();
            while !stop.is_cancelled() {
                all.extend(times(&flood, MAPS, 1).await);
            }
            all
        }
    }));
    eventually("requests wait", async || {
        metric(&api, "current_inqueue_requests").await > Some(20.0)
    })
    .await;
    let beside = times(&calm, &one, 20).await;
    stop.cancel();
    let mut flooded: Vec<Duration> = flooding.join_all().await.into_iter().flatten().collect();
    flooded.sort();
    let middle = |all: &[Duration]| all[all.len() / 2];
    figures(FLOOD, [middle(&alone), middle(&beside), middle(&flooded)]);
    // In one queue behind the flood it would wait as long as that.
    assert!(
        middle(&beside) * 4 < middle(&flooded),
        "{:?} beside {:?}",
        middle(&beside),
        middle(&flooded)
    );
}

#[tokio::test]
async fn without_fairness_there_are_two_limits() {
    let api = Daemon::start_with(|_| {
        vec![
            "--enable-priority-and-fairness=false".to_owned(),
            "--max-requests-inflight=0".to_owned(),
            "--max-mutating-requests-inflight=1".to_owned(),
        ]
    })
    .await;
    allow(&api, &["tenant"]).await;
    let held = unfinished(&api, "tenant").await;
    let write = async || {
        let mut wire = Wire::admin(&api).await;
        let headers = [
            "Impersonate-User: tenant",
            "Content-Type: application/json",
            "Connection: close",
        ];
        let body = config_map("b", json!({})).to_string();
        wire.ask(&format!("POST {MAPS}"), &headers, &body).await
    };
    eventually("the write is worked on", async || {
        let text = api.text("/metrics").await;
        text.contains("apiserver_current_inflight_requests{request_kind=\"mutating\"} 1\n")
    })
    .await;
    let answer = write().await;
    assert!(answer.starts_with("http/1.1 429"), "{answer}");
    assert_eq!(header(&answer, "retry-after").as_deref(), Some("1"));
    assert_eq!(header(&answer, MARKS[0]), None);
    // Reads are not limited, and masters never.
    let answer = head(&api, "tenant", MAPS).await;
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    let (code, _) = api.send("POST", MAPS, &config_map("c", json!({}))).await;
    assert_eq!(code, 201);
    drop(held);
    eventually("the limit is free", async || {
        write().await.starts_with("http/1.1 201")
    })
    .await;
}
