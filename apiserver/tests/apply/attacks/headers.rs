//! Headers that say who asks: believed only from whom they may come.

use component::testing::Ca;
use serde_json::{Value, json};

use super::{eventually, give, of, who};
use crate::bearer::ask_over;
use crate::daemon::Daemon;
use crate::wire::Wire;

const MAPS: &str = "GET /api/v1/namespaces/default/configmaps";
const AS_ADMIN: [&str; 2] = ["X-Remote-User: admin", "X-Remote-Group: system:masters"];

/// A server that a front proxy may ask for others, and the proxies' authority.
async fn behind_a_proxy() -> (Daemon, Ca) {
    let proxies = Ca::new("proxies");
    let pem = proxies.pem.clone();
    let api = Daemon::start_with(move |files| {
        let ca = files.write("proxies.crt", &pem);
        vec![
            format!("--requestheader-client-ca-file={}", ca.display()),
            "--requestheader-allowed-names=proxy".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-uid-headers=X-Remote-Uid".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        ]
    })
    .await;
    (api, proxies)
}

fn name(user: &Value) -> &str {
    user["username"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn what_a_proxy_says_counts_only_from_a_proxy() {
    let (api, proxies) = behind_a_proxy().await;
    let (_, ca) = api.place();
    let from = async |ca: &Ca, user: &str| of(&api, ca, user).await;

    let proxied = [
        "X-Remote-User: bob",
        "X-Remote-Group: dev",
        "X-Remote-Extra-Scope: some",
    ];
    let (code, user) = who(from(&proxies, "proxy").await, &proxied).await;
    assert_eq!(code, 201, "{user}");
    assert_eq!(
        user,
        json!({"username": "bob", "groups": ["dev", "system:authenticated"], "extra": {"scope": ["some"]}})
    );
    // A user of the cluster is himself, also if he is called as a proxy.
    for other in ["jane", "proxy"] {
        let (code, user) = who(from(ca, other).await, &AS_ADMIN).await;
        assert_eq!((code, name(&user)), (201, other), "{user}");
        assert_eq!(user["groups"], json!(["system:authenticated"]));
    }
    // The proxies' authority vouches for proxies of the names that are allowed, and for no users.
    for other in ["jane", "admin", "proxy2", "Proxy"] {
        let (code, user) = who(from(&proxies, other).await, &AS_ADMIN).await;
        assert_eq!(code, 401, "{other}: {user}");
    }
    // A proxy that names nobody is nobody either.
    for silent in [
        &[][..],
        &["X-Remote-User: "],
        &["X-Remote-Group: system:masters"],
    ] {
        let (code, user) = who(from(&proxies, "proxy").await, silent).await;
        assert_eq!(code, 401, "{silent:?}: {user}");
    }
    let nobody = Wire::anonymous(&api).await;
    let (code, status) = ask_over(nobody, MAPS, &AS_ADMIN, "").await;
    assert_eq!(code, 403, "{status}");
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains("User \"system:anonymous\" cannot"),
        "{message}"
    );
}

#[tokio::test]
async fn a_client_cannot_add_to_what_its_proxy_says() {
    let (api, proxies) = behind_a_proxy().await;
    let bob = "X-Remote-User: bob";
    // What a client sends beside what the proxy sets, in every form in which a proxy may overlook it.
    for smuggled in [
        &["X-Remote-User: admin"][..],
        &["X_Remote_User: admin", "X_Remote_Group: system:masters"],
        &["X-Remote-Groups: system:masters"],
        &["Remote-User: admin", "Remote-Group: system:masters"],
        &["Connection: X-Remote-User"],
        &[
            "X-Remote-Extra-Username: admin",
            "X-Remote-Extra-Groups: system:masters",
        ],
    ] {
        let all = [&[bob], smuggled].concat();
        let (code, user) = who(of(&api, &proxies, "proxy").await, &all).await;
        assert_eq!((code, name(&user)), (201, "bob"), "{smuggled:?}: {user}");
        assert_eq!(
            user["groups"],
            json!(["system:authenticated"]),
            "{smuggled:?}"
        );
    }
    for malformed in [
        "X-Remote-User : admin",
        " X-Remote-User: admin",
        "X-Remote-User\u{b}: admin",
    ] {
        let (code, user) = who(of(&api, &proxies, "proxy").await, &[bob, malformed]).await;
        assert_eq!(code, 400, "{malformed:?}: {user}");
    }
    // Whom the proxy names acts for himself: he needs his own right to become another.
    let become_admin = [
        bob,
        "Impersonate-User: admin",
        "Impersonate-Group: system:masters",
    ];
    let (code, user) = who(of(&api, &proxies, "proxy").await, &become_admin).await;
    assert_eq!(code, 403, "{user}");
}

#[tokio::test]
async fn who_wants_to_be_another_is_never_himself() {
    let (api, _) = behind_a_proxy().await;
    let (_, ca) = api.place();
    let admin = async || Wire::admin(&api).await;
    assert_eq!(ask_over(admin().await, MAPS, &[], "").await.0, 200);
    let bob = "Impersonate-User: bob";
    for dressed in [
        &[bob][..],
        &["impersonate-user: bob"],
        &["IMPERSONATE-USER: bob"],
        &[bob, "Connection: Impersonate-User"],
        &[bob, "Impersonate-User: admin"],
        &[
            bob,
            "X-Remote-User: admin",
            "X-Remote-Group: system:masters",
        ],
        &[bob, "Impersonate-Extra-Groups: system:masters"],
    ] {
        let (code, user) = who(admin().await, dressed).await;
        assert_eq!((code, name(&user)), (201, "bob"), "{dressed:?}: {user}");
        let (code, status) = ask_over(admin().await, MAPS, dressed, "").await;
        assert_eq!(code, 403, "{dressed:?}: {status}");
    }
    // Somebody of whom the name is missing.
    for headless in [
        &["Impersonate-Group: dev"][..],
        &["Impersonate-Uid: 1"],
        &["Impersonate-Extra-Scope: some"],
        &["Impersonate-User: ", "Impersonate-Group: dev"],
    ] {
        let (code, status) = ask_over(admin().await, MAPS, headless, "").await;
        assert!(
            [400, 403, 500].contains(&code),
            "{headless:?}: {code} {status}"
        );
    }
    let (code, _) = ask_over(admin().await, MAPS, &["Impersonate-User : bob"], "").await;
    assert_eq!(code, 400);

    // The right to become one user, without groups, uid or extra.
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
    give(&api, "bob", rules).await;
    let path = format!("{}/clusterroles", super::RBAC);
    let role = json!({"metadata": {"name": "be-bob"}, "rules": [
        {"apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"], "verbs": ["impersonate"]},
    ]});
    assert_eq!(api.send("POST", &path, &role).await.0, 201);
    let binding = json!({
        "metadata": {"name": "be-bob"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "be-bob"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    let path = format!("{}/clusterrolebindings", super::RBAC);
    assert_eq!(api.send("POST", &path, &binding).await.0, 201);
    let jane = async |headers: &[&str]| {
        let wire = of(&api, ca, "jane").await;
        ask_over(wire, MAPS, headers, "").await.0
    };
    eventually("jane may be bob", async || jane(&[bob]).await == 200).await;
    assert_eq!(jane(&[]).await, 403);
    for more in [
        "Impersonate-Group: system:masters",
        "Impersonate-Group: dev",
        "Impersonate-Uid: 1",
        "Impersonate-Extra-Scope: some",
    ] {
        assert_eq!(jane(&[bob, more]).await, 403, "{more}");
    }
    for other in [
        "admin",
        "system:node:n",
        "system:serviceaccount:kube-system:root",
    ] {
        let wanted = format!("Impersonate-User: {other}");
        assert_eq!(jane(&[&wanted]).await, 403, "{other}");
    }
}
