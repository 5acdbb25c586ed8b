use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt;
use serde_json::json;

use super::backend::Delivery;
use super::policy::Verdict;
use super::trail::omit_managed_fields;
use super::*;
use crate::body;
use serde_json::Value;

#[test]
fn managed_fields_are_left_out_of_objects_lists_and_tables() {
    let object = json!({"metadata": {"name": "a", "managedFields": [1]}});
    let bare = json!({"metadata": {"name": "a"}});
    for (mut tree, wanted) in [
        (object.clone(), bare.clone()),
        (json!({"items": [object]}), json!({"items": [bare]})),
        (
            json!({"rows": [{"cells": [], "object": object}]}),
            json!({"rows": [{"cells": [], "object": bare}]}),
        ),
    ] {
        omit_managed_fields(&mut tree);
        assert_eq!(tree, wanted);
    }
}

#[test]
fn an_id_that_is_given_is_kept() {
    let mut headers = HeaderMap::new();
    assert_eq!(id(&headers).len(), 36);
    headers.insert(&ID, HeaderValue::from_static("mine"));
    assert_eq!(id(&headers), "mine");
    let mut response = Response::new(body::full(Vec::new()));
    add_id(&mut response, "mine");
    add_id(&mut response, "another");
    assert_eq!(response.headers()[&ID], "mine");
}

fn trail(path: &std::path::Path, mode: Mode) -> Trail {
    trail_at(path, mode, Level::Metadata)
}

/// One whose objects are recorded without managed fields.
fn trail_at(path: &std::path::Path, mode: Mode, level: Level) -> Trail {
    let config = LogConfig {
        path: Some(path.to_owned()),
        rotation: Rotation {
            max_size: 0,
            max_age: 0,
            max_backups: 0,
            compress: false,
        },
        legacy: false,
        delivery: Delivery {
            mode,
            max_event: None,
        },
    };
    let counters = Counters::register(&Metrics::new());
    let log = log::open(&config, &Supervisor::current(), counters.clone()).unwrap();
    let backends = Arc::new(Backends {
        queues: vec![log],
        counters,
    });
    let verdict = Verdict {
        level,
        omit_stages: vec![],
        omit_managed_fields: true,
    };
    let event = event::tests::sample(level);
    Trail::new(&verdict, &backends, event)
}

/// Waits for what stands before it in the queue.
async fn recorded(trail: &Trail, path: &std::path::Path) -> Vec<Value> {
    assert!(trail.backends().write(vec![Some(Vec::new())]).await);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

#[tokio::test]
async fn a_request_that_is_dropped_or_panics_has_a_last_event() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let trail = trail(&path, Mode::Blocking { strict: true });
    drop(Ending::of(&trail));
    let ending = Ending::of(&trail);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _ending = ending;
        panic!("a handler's");
    }));
    assert!(panicked.is_err());
    let answered = Ending::of(&trail).completed(body::not_found()).await;
    assert_eq!(answered.status(), 404);
    let events = recorded(&trail, &path).await;
    let told: Vec<_> = { events.iter() }
        .map(|e| {
            (
                e["stage"].as_str().unwrap(),
                e["responseStatus"]["code"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("ResponseComplete", 200),
            ("Panic", 500),
            ("ResponseComplete", 404)
        ]
    );
    assert_eq!(
        events[0]["responseStatus"]["message"],
        "Connection closed early"
    );
    let panicked = json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": "APIServer panic'd: a handler panicked",
    });
    assert_eq!(events[1]["responseStatus"], panicked);
}

/// Records the answer to a request, which reaches its client unchanged.
async fn answered(answer: &Value, zipped: bool, patch: &[u8]) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let trail = trail_at(
        &path,
        Mode::Blocking { strict: true },
        Level::RequestResponse,
    );
    trail.request_patch(patch, false);
    let mut sent = answer.to_string().into_bytes();
    let mut response = Response::new(body::full(Vec::new()));
    if zipped {
        let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
        zip.write_all(&sent).unwrap();
        sent = zip.finish().unwrap();
        crate::compress::mark(response.headers_mut());
    }
    *response.body_mut() = body::full(sent.clone());
    let passed = Ending::of(&trail).completed(response).await;
    assert_eq!(passed.into_body().collect().await.unwrap().to_bytes(), sent);
    recorded(&trail, &path).await.pop().unwrap()
}

#[tokio::test]
async fn an_answer_is_recorded_however_it_is_sent() {
    let object =
        json!({"kind": "ConfigMap", "metadata": {"managedFields": [1]}, "data": {"a": "b"}});
    let bare = json!({"kind": "ConfigMap", "metadata": {}, "data": {"a": "b"}});
    for zipped in [false, true] {
        let event = answered(&object, zipped, b"").await;
        assert_eq!(event["responseObject"], bare, "{zipped}");
    }
    // One that the recorder was not told of is written past it.
    let event = answered(&json!({"kind": "Status"}), false, b"").await;
    assert_eq!(event["responseObject"], Value::Null);
}

#[tokio::test]
async fn a_patch_is_recorded_as_it_was_sent() {
    let patch = json!({"metadata": {"managedFields": [{}]}});
    for (sent, wanted) in [
        (patch.to_string(), patch),
        (r#"[{"op": "test"}]"#.to_owned(), json!([{"op": "test"}])),
        (r#""text""#.to_owned(), json!("text")),
        ("yaml: yes".to_owned(), Value::Null),
    ] {
        let event = answered(&json!({}), false, sent.as_bytes()).await;
        assert_eq!(event["requestObject"], wanted, "{sent}");
    }
}
