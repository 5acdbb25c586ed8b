//! Requests with a bearer token and nothing else.

use serde_json::{Value, json};

use super::daemon::Daemon;
use super::wire::Wire;

/// Code and body of a request with a token.
pub(crate) async fn ask(api: &Daemon, token: &str, line: &str, body: &str) -> (u16, Value) {
    let authorization = format!("Authorization: Bearer {token}");
    let headers: &[&str] = if token.is_empty() {
        &[]
    } else {
        &[&authorization]
    };
    ask_over(Wire::anonymous(api).await, line, headers, body).await
}

/// Code and body of a request over a connection that is closed then.
pub(crate) async fn ask_over(
    mut wire: Wire,
    line: &str,
    headers: &[&str],
    body: &str,
) -> (u16, Value) {
    let own = ["Connection: close", "Content-Type: application/json"];
    let head = wire.ask(line, &[&own, headers].concat(), body).await;
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    let rest = wire.rest().await;
    // Chunks have their lengths before them.
    let json = rest.find('{').and_then(|at| {
        let mut values = serde_json::Deserializer::from_str(&rest[at..]).into_iter::<Value>();
        values.next()?.ok()
    });
    (code, json.unwrap_or_default())
}

/// Who a token says that somebody is: the code, and name and groups.
pub(crate) async fn who(api: &Daemon, token: &str) -> (u16, Value) {
    let line = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (code, review) = ask(api, token, line, "{}").await;
    (code, review["status"]["userInfo"].clone())
}

/// What the server says of a token.
pub(crate) async fn review(api: &Daemon, token: &str, audiences: &[&str]) -> Value {
    let review = json!({"spec": {"token": token, "audiences": audiences}});
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let (code, review) = api.send("POST", path, &review).await;
    assert_eq!(code, 201, "{review}");
    review["status"].clone()
}
