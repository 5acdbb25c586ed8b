//! Deletion of objects that finalizers hold.

use serde_json::{Value, json};

use super::daemon::Daemon;
use super::version;

#[tokio::test]
async fn to_delete_again_what_waits_for_finalizers_writes_nothing() {
    let api = Daemon::start().await;
    let pod = json!({
        "metadata": {"name": "held", "finalizers": ["example.com/hold"]},
        "spec": {"containers": [{"name": "c", "image": "busybox"}], "nodeName": "node-1"},
    });
    let map = json!({"metadata": {"name": "held", "finalizers": ["example.com/hold"]}});
    for (resource, object) in [("pods", pod), ("configmaps", map)] {
        let path = format!("/api/v1/namespaces/default/{resource}");
        let (code, made) = api.send("POST", &path, &object).await;
        assert_eq!(code, 201, "{made}");
        let path = format!("{path}/held");
        let at_once = json!({"gracePeriodSeconds": 0});
        let (code, _) = api.send("DELETE", &path, &at_once).await;
        assert_eq!(code, 200);
        let (_, marked) = api.get(&path).await;
        assert!(
            marked["metadata"]["deletionTimestamp"].is_string(),
            "{marked}"
        );
        assert_ne!(version(&marked), version(&made));
        // Whoever deletes what a watch shows deletes again whenever it shows a change.
        for options in [
            at_once,
            Value::Null,
            json!({"propagationPolicy": "Background"}),
        ] {
            let (code, again) = api.send("DELETE", &path, &options).await;
            assert_eq!(code, 200, "{again}");
            let (_, now) = api.get(&path).await;
            assert_eq!(now, marked, "after {options}");
        }
    }
}
