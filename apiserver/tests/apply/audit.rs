//! Auditing: what the log says of requests.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::daemon::Daemon;
use super::wire::Wire;
use super::{MERGE, config_map};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- {level: None, nonResourceURLs: ['/readyz*']}
- {level: Metadata, resources: [{resources: [secrets]}]}
- {level: Request, verbs: [delete], omitStages: [RequestReceived], resources: [{resources: [configmaps]}]}
- {level: RequestResponse, omitManagedFields: true, omitStages: [RequestReceived], resources: [{resources: [configmaps]}]}
";

async fn start(more: &[&str]) -> Daemon {
    let more: Vec<String> = more.iter().map(|m| (*m).to_owned()).collect();
    Daemon::start_with(|files| {
        let policy = files.write("policy.yaml", POLICY);
        let log = policy.with_file_name("audit.log");
        let mut flags = vec![
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", log.display()),
        ];
        flags.extend(more);
        flags
    })
    .await
}

fn log(api: &Daemon) -> Vec<Value> {
    read(&api.files().write("probe", "").with_file_name("audit.log"))
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str(l).unwrap());
    lines.collect()
}

/// What is recorded of the administrator's requests for a path.
fn of<'a>(events: &'a [Value], path: &str, verb: &str) -> Vec<&'a Value> {
    let events = events.iter();
    events
        .filter(|e| {
            let uri = e["requestURI"].as_str().unwrap();
            uri.split('?').next() == Some(path) && e["verb"] == verb
        })
        .filter(|e| e["user"]["username"] != "system:apiserver")
        .collect()
}

fn stages(events: &[&Value]) -> Vec<String> {
    let stage = |e: &&Value| e["stage"].as_str().unwrap().to_owned();
    events.iter().map(stage).collect()
}

#[tokio::test]
async fn a_request_is_recorded_before_it_is_answered() {
    let api = start(&[]).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
        "stringData": {"password": "in the clear"},
    });
    let (code, _) = api.send("POST", SECRETS, &secret).await;
    assert_eq!(code, 201);
    let events = log(&api);
    let made = of(&events, SECRETS, "create");
    assert_eq!(stages(&made), ["RequestReceived", "ResponseComplete"]);
    let done = made[1];
    assert_eq!(made[0]["auditID"], done["auditID"]);
    assert_eq!(done["level"], "Metadata");
    assert_eq!(done["user"]["username"], "admin");
    assert_eq!(done["sourceIPs"], json!(["127.0.0.1"]));
    assert_eq!(
        done["objectRef"],
        json!({"resource": "secrets", "namespace": "default", "name": "s", "apiVersion": "v1"})
    );
    assert_eq!(done["responseStatus"], json!({"metadata": {}, "code": 201}));
    let annotations = json!({
        "authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "",
    });
    assert_eq!(done["annotations"], annotations);
    assert!(!done.to_string().contains("in the clear"), "{done}");

    let (code, _) = api
        .send("POST", MAPS, &config_map("m", json!({"a": "b"})))
        .await;
    assert_eq!(code, 201);
    let path = format!("{MAPS}/m");
    let patch = json!({"data": {"c": "d"}});
    let (code, patched) = api.patch(&path, MERGE, &patch).await;
    assert_eq!(code, 200, "{patched}");
    let (code, _) = api
        .send(
            "DELETE",
            &path,
            &json!({"kind": "DeleteOptions", "apiVersion": "v1"}),
        )
        .await;
    assert_eq!(code, 200);
    let (code, _) = api.get(&path).await;
    assert_eq!(code, 404);
    let events = log(&api);
    let [made] = of(&events, MAPS, "create")[..] else {
        panic!("{events:?}")
    };
    assert_eq!(made["requestObject"]["data"], json!({"a": "b"}));
    assert_eq!(made["requestObject"]["kind"], "ConfigMap");
    assert_eq!(made["responseObject"]["data"], json!({"a": "b"}));
    assert!(
        made["responseObject"]["metadata"]["uid"].is_string(),
        "{made}"
    );
    assert_eq!(
        made["responseObject"]["metadata"]["managedFields"],
        Value::Null
    );
    let [change] = of(&events, &path, "patch")[..] else {
        panic!("{events:?}")
    };
    assert_eq!(change["requestObject"], patch);
    let [gone] = of(&events, &path, "delete")[..] else {
        panic!("{events:?}")
    };
    let options = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/__internal"});
    assert_eq!(gone["requestObject"], options);
    assert_eq!(gone["responseObject"], Value::Null);
    assert_eq!(gone["responseStatus"]["status"], "Success");
    assert_eq!(gone["responseStatus"]["details"]["kind"], "configmaps");
    let [missing] = of(&events, &path, "get")[..] else {
        panic!("{events:?}")
    };
    assert_eq!(missing["responseStatus"]["reason"], "NotFound");
    assert_eq!(missing["responseStatus"]["code"], 404);
    assert_eq!(missing["responseObject"]["kind"], "Status");
    assert!(of(&events, "/readyz", "get").is_empty());
}

#[tokio::test]
async fn a_refusal_and_an_impersonation_are_recorded() {
    let api = start(&["--anonymous-auth=false"]).await;
    let (code, _) = api.user("stranger").get(SECRETS).await;
    assert_eq!(code, 403);
    let (code, _) = api.acting_as("somebody").get(SECRETS).await;
    assert_eq!(code, 403);
    let events = log(&api);
    let listed = of(&events, SECRETS, "list");
    let done = |user: &str, acting: Value| {
        let mut found = listed.iter().filter(|e| {
            e["user"]["username"] == user
                && e["impersonatedUser"]["username"] == acting
                && e["stage"] == "ResponseComplete"
        });
        let found = found.next().unwrap();
        assert_eq!(
            found["annotations"]["authorization.k8s.io/decision"],
            "forbid"
        );
        assert_eq!(found["responseStatus"]["code"], 403);
        assert_eq!(found["responseStatus"]["reason"], "Forbidden");
        (*found).clone()
    };
    done("stranger", Value::Null);
    let acted = done("admin", json!("somebody"));
    assert_eq!(
        acted["authenticationMetadata"]["impersonationConstraint"],
        "impersonate:user-info"
    );
    // Nobody in particular.
    let mut nobody = Wire::anonymous(&api).await;
    let line = format!("GET {SECRETS}");
    let head = nobody.ask(&line, &["Audit-ID: mine"], "").await;
    assert!(head.starts_with("http/1.1 401"), "{head}");
    assert!(head.contains("audit-id: mine\r\n"), "{head}");
    let events = log(&api);
    let mut mine = events.iter().filter(|e| e["auditID"] == "mine");
    let refused = mine.next().unwrap();
    assert_eq!(refused["stage"], "ResponseStarted");
    assert_eq!(refused["responseStatus"]["code"], 401);
    assert_eq!(refused["user"], json!({}));
    assert!(mine.next().is_none());
}

#[tokio::test]
async fn a_watch_has_an_event_at_its_start_and_one_at_its_end() {
    let api = start(&[]).await;
    api.text(&format!("{MAPS}?watch=true&timeoutSeconds=1"))
        .await;
    // Its last event follows the end of its answer, and nobody waits for it.
    let path = MAPS;
    let ended = || {
        let events = log(&api);
        let watched = of(&events, path, "watch");
        let of_ours = watched.iter().filter(|e| {
            let uri = e["requestURI"].as_str().unwrap();
            uri.ends_with("timeoutSeconds=1")
        });
        stages(&of_ours.copied().collect::<Vec<_>>())
    };
    let start = Instant::now();
    while ended().len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", ended());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ended(), ["ResponseStarted", "ResponseComplete"]);
}

#[tokio::test]
async fn what_waits_for_its_batch_is_written_when_the_server_stops() {
    let mut api = start(&[
        "--audit-log-mode=batch",
        "--audit-log-batch-max-size=1000",
        "--audit-log-batch-max-wait=1h",
    ])
    .await;
    let (code, _) = api.send("POST", MAPS, &config_map("m", json!({}))).await;
    assert_eq!(code, 201);
    assert!(of(&log(&api), MAPS, "create").is_empty());
    api.terminate().await;
    assert_eq!(of(&log(&api), MAPS, "create").len(), 1);
}

#[tokio::test]
async fn a_strict_log_refuses_what_it_cannot_record() {
    let api = start(&[
        "--audit-log-path=/dev/full",
        "--audit-log-maxsize=0",
        "--audit-log-mode=blocking-strict",
    ])
    .await;
    let (code, status) = api.get(SECRETS).await;
    assert_eq!(code, 500, "{status}");
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("failed to store audit event"), "{message}");
    let text = api.text("/metrics").await;
    let counted = |name: &str| {
        text.lines()
            .any(|l| l.starts_with(name) && !l.ends_with(" 0"))
    };
    assert!(counted("apiserver_audit_requests_rejected_total"), "{text}");
    assert!(
        counted("apiserver_audit_error_total{plugin=\"log\"}"),
        "{text}"
    );
}
