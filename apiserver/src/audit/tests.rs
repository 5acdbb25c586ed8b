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
        level: Level::Metadata,
        omit_stages: vec![],
        omit_managed_fields: false,
    };
    let event = event::tests::sample(Level::Metadata);
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
