//! Kubeconfig files with everything embedded, so that one file is enough to hand to somebody.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub(super) struct Parts<'a> {
    pub server: &'a str,
    pub user: &'a str,
    /// PEM texts.
    pub authority: &'a str,
    pub certificate: &'a str,
    pub key: &'a str,
}

pub(super) fn render(parts: &Parts<'_>) -> String {
    let Parts { server, user, .. } = parts;
    let [authority, certificate, key] =
        [parts.authority, parts.certificate, parts.key].map(|pem| STANDARD.encode(pem));
    format!(
        "\
apiVersion: v1
kind: Config
clusters:
- name: navarch
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: navarch
  context:
    cluster: navarch
    user: {user}
current-context: navarch
"
    )
}
