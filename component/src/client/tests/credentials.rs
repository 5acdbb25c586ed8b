//! Kubeconfig files and plugins.

use super::*;

fn kubeconfig(cluster: &str, user: &str) -> Result<Config, String> {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nextensions: []\n\
         clusters:\n- name: k\n  cluster: {{{cluster}}}\n\
         users:\n- name: u\n  user: {{{user}}}\n\
         contexts:\n- name: c\n  context: {{cluster: k, user: u, namespace: team}}\n"
    );
    Kubeconfig::read(text.as_bytes())?.client(None, std::path::Path::new("/dir"))
}

#[test]
fn a_kubeconfig_holds_its_credentials_inline_or_beside_it() {
    let config = kubeconfig(
        "server: 'https://h:1', certificate-authority: ca.crt, tls-server-name: s",
        "client-certificate-data: YQ==, client-key: /abs/key, tokenFile: tok, as: other, as-groups: [g]",
    )
    .unwrap();
    assert_eq!(config.ca, Some(Source::File("/dir/ca.crt".into())));
    let (cert, key) = config.certificate.unwrap();
    assert_eq!(
        (cert, key),
        (
            Source::Inline(b"a".to_vec()),
            Source::File("/abs/key".into())
        )
    );
    assert!(
        matches!(config.bearer, Some(Bearer::TokenFile(path)) if path.to_str() == Some("/dir/tok"))
    );
    assert_eq!(
        (
            config.server_name.as_deref(),
            config.impersonate.user.as_str()
        ),
        (Some("s"), "other")
    );
}

#[test]
fn a_kubeconfig_that_cannot_work_says_why() {
    let said = |cluster, user| kubeconfig(cluster, user).unwrap_err();
    assert_eq!(
        said("certificate-authority: x", ""),
        "cluster \"k\" has no server"
    );
    assert_eq!(
        said("server: x", "client-certificate: x"),
        "user \"u\": client certificate without client key"
    );
    assert!(said("server: x", "username: x, password: y").contains("not supported"));
    assert!(said("server: x", "client-certificate-data: '%'").contains("client-certificate-data"));
    assert!(
        said(
            "server: x",
            "exec: {command: x, apiVersion: client.authentication.k8s.io/v1alpha1}"
        )
        .contains("v1alpha1")
    );
    let none = Kubeconfig::read(b"apiVersion: v1\nkind: Config\nusers: null\n").unwrap();
    assert_eq!(
        none.client(None, std::path::Path::new("")).unwrap_err(),
        "there is no current-context"
    );
}

#[tokio::test]
async fn a_plugin_is_run_once_while_its_token_is_good_and_again_when_it_was_refused() {
    let files = Files::new();
    let plugin = |text: &str| {
        let script = files.write("plugin", text);
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&script, mode).unwrap();
        script
    };
    let script = plugin(
        "#!/bin/sh\necho x >> $0.runs\n\
        n=$(wc -l < $0.runs)\n\
        echo '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{\"token\":\"t'$n'\"}}'\n",
    );
    let mut api = FakeApi::plain();
    let text = format!(
        "exec: {{command: {}, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never}}",
        script.display()
    );
    let config = kubeconfig(&format!("server: '{}'", api.url), &text).unwrap();
    let client = Client::new(
        Config {
            qps: -1.0,
            ..config
        },
        "test",
        &api.tasks,
        &api.metrics,
    )
    .unwrap();
    let maps = client.namespaced::<ConfigMap>("ns");
    for _ in 0..2 {
        let (got, seen) = with!(api, maps.get("a"), |a: Ask| a.json(&config_map("a", "1")));
        got.unwrap();
        assert_eq!(seen.header("authorization"), "Bearer t1");
    }
    let (refused, _) = with!(api, maps.get("a"), |a: Ask| a.status(401, "Unauthorized"));
    assert!(refused.unwrap_err().is_unauthorized());
    let (_, seen) = with!(api, maps.get("a"), |a: Ask| a.json(&config_map("a", "1")));
    assert_eq!(seen.header("authorization"), "Bearer t2");
    let runs = "rest_client_exec_plugin_call_total{code=\"0\",call_status=\"no_error\"} 2\n";
    assert!(api.metrics.answer("").1.contains(runs));
    plugin("#!/bin/sh\nexit 7\n");
    let (refused, _) = with!(api, maps.get("a"), |a: Ask| a.status(401, "Unauthorized"));
    refused.unwrap_err();
    maps.get("a").await.unwrap_err();
    let failed = "{code=\"7\",call_status=\"plugin_execution_error\"} 1\n";
    assert!(api.metrics.answer("").1.contains(failed));
}
