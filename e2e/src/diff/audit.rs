//! What both servers record of requests (`audit.k8s.io/v1`), event by event.
//!
//! Both have one policy and one list of tokens (`e2e/diff/audit/`). The policy asks for nothing but what the users of that list do,
//! so a token says by which of its rules a request is recorded. Each request of a case has an id that follows from the case, under
//! which its events are found in the log.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

use super::case::{Case, Step};
use super::value::text;

/// The area whose events are compared: the cases of `e2e/diff/audit.http`.
pub const AREA: &str = "audit";
/// Below the clone.
const POLICY: &str = "e2e/diff/audit/policy.yaml";
const TOKENS: &str = "e2e/diff/audit/tokens.csv";
/// How long the last event of a request may take that is recorded once its answer was taken, and how long nothing must
/// come for none to be there: that can be seen by waiting only.
const LAST: Duration = Duration::from_millis(1500);
/// What a request's time was spent on is told of those that took long by chance.
const LATENCY: &str = "apiserver.latency.k8s.io/";

/// The flags of a server that writes its events to `log`; `root` is the clone.
pub fn flags(root: &Path, log: &Path) -> Vec<String> {
    let path = |of: &str| root.join(of).display().to_string();
    vec![
        format!("--token-auth-file={}", path(TOKENS)),
        format!("--audit-policy-file={}", path(POLICY)),
        format!("--audit-log-path={}", log.display()),
        // Whoever has an answer that ended finds its events written.
        "--audit-log-mode=blocking-strict".to_owned(),
    ]
}

/// The request with an id of its own, if its events are to be compared; `at` is its number in the case.
pub fn identified(case: &Case, namespace: &str, at: usize, step: &Step) -> Option<(String, Step)> {
    if case.area != AREA {
        return None;
    }
    let id = format!("audit-{namespace}-{at}");
    let step = step.clone().header("audit-id", id.as_str());
    Some((id, step))
}

/// The log of one server.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    read: Mutex<Known>,
}

/// What was read of it.
#[derive(Debug, Default)]
struct Known {
    to: u64,
    /// The beginning of a line that is not whole yet.
    rest: Vec<u8>,
    events: HashMap<String, Vec<Value>>,
}

impl Known {
    /// Takes what the log has more; lines are whole events, of which those without a request here are passed over.
    fn take(&mut self, bytes: &[u8]) {
        self.to += bytes.len() as u64;
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let event = serde_json::from_slice(&line)
                .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&line).into_owned()));
            let id = text(&event["auditID"]).to_owned();
            self.events.entry(id).or_default().push(event);
        }
    }
}

impl Log {
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: Mutex::default(),
        }
    }

    /// The events of a request whose answer was taken, by their stages.
    pub async fn events(&self, id: &str) -> BTreeMap<String, Value> {
        let began = Instant::now();
        loop {
            let events = self.known(id);
            let last =
                |event: &Value| matches!(text(&event["stage"]), "ResponseComplete" | "Panic");
            if events.iter().any(last) || began.elapsed() > LAST {
                return by_stage(events);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn known(&self, id: &str) -> Vec<Value> {
        let mut known = self.read.lock();
        let mut bytes = Vec::new();
        // There is no file before the first event.
        let read = std::fs::File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(known.to))?;
            file.read_to_end(&mut bytes)
        });
        if read.is_ok() {
            known.take(&bytes);
        }
        known.events.get(id).cloned().unwrap_or_default()
    }
}

/// One that is there twice is told with its number.
fn by_stage(events: Vec<Value>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for mut event in events {
        if let Some(annotations) = event["annotations"].as_object_mut() {
            annotations.retain(|key, _| !key.starts_with(LATENCY));
            if annotations.is_empty() {
                event.as_object_mut().map(|of| of.remove("annotations"));
            }
        }
        let stage = text(&event["stage"]).to_owned();
        let count = all
            .keys()
            .filter(|of: &&String| of.starts_with(&stage))
            .count();
        let name = match count {
            0 => stage,
            more => format!("{stage} {}", more + 1),
        };
        all.insert(name, event);
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_found_by_the_request_however_the_log_grows() {
        let mut known = Known::default();
        let lines = concat!(
            r#"{"auditID":"a","stage":"RequestReceived"}"#,
            "\n",
            r#"{"auditID":"b","stage":"RequestReceived"}"#,
            "\n",
            r#"{"auditID":"a","stage":"ResponseComplete"}"#,
            "\n",
        );
        for byte in lines.as_bytes() {
            known.take(&[*byte]);
        }
        let stages = |id: &str| {
            known.events[id]
                .iter()
                .map(|of| text(&of["stage"]).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(stages("a"), ["RequestReceived", "ResponseComplete"]);
        assert_eq!(stages("b"), ["RequestReceived"]);
        assert_eq!(known.to, lines.len() as u64);
    }

    #[test]
    fn times_of_long_requests_are_chance_and_a_stage_twice_is_not() {
        let event = |annotations: Value| json!({"stage": "Panic", "annotations": annotations});
        let all = by_stage(vec![
            event(json!({"apiserver.latency.k8s.io/total": "1s"})),
            event(json!({"apiserver.latency.k8s.io/etcd": "1s", "a": "b"})),
        ]);
        let wanted = json!({"Panic": {"stage": "Panic"}, "Panic 2": {"stage": "Panic", "annotations": {"a": "b"}}});
        assert_eq!(serde_json::to_value(all).unwrap(), wanted);
    }

    #[tokio::test]
    async fn a_log_that_is_not_there_has_no_events() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::new(dir.path().join("log"));
        assert!(log.events("a").await.is_empty());
        std::fs::write(
            &log.path,
            "{\"auditID\":\"a\",\"stage\":\"ResponseComplete\"}\n",
        )
        .unwrap();
        assert_eq!(log.events("a").await.len(), 1);
    }
}
