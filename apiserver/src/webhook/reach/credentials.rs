//! Whom webhooks see: the users of a kubeconfig, by the webhook's address.
//!
//! Upstream: `defaultAuthenticationInfoResolver` in `apiserver/pkg/util/webhook/authentication.go`.

use std::path::{Path, PathBuf};

use component::client::{Config, ConfigError, Kubeconfig};

/// The API server's credentials for webhooks; none without a file.
#[derive(Default)]
pub struct Credentials(Option<(PathBuf, Kubeconfig)>);

impl Credentials {
    /// The users of a kubeconfig, which is read once.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read(path).map_err(|cause| ConfigError::Read {
            path: path.to_owned(),
            cause,
        })?;
        let file = Kubeconfig::read(&text).map_err(|problem| ConfigError::Kubeconfig {
            path: path.to_owned(),
            problem,
        })?;
        Ok(Self(Some((path.to_owned(), file))))
    }

    /// Adds what a host (`name:port`) is shown.
    pub(super) fn apply(&self, host: &str, config: &mut Config) -> Result<(), ConfigError> {
        let Some((path, file)) = &self.0 else {
            return Ok(());
        };
        let known = |name: &str| file.users.iter().any(|user| user.name == name);
        let Some(user) = user(host, &known).or_else(|| current(file).filter(|name| known(name)))
        else {
            return Ok(());
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let applied = file.credentials(&user, config, folder);
        applied.map_err(|problem| ConfigError::Kubeconfig {
            path: path.clone(),
            problem,
        })
    }
}

fn current(file: &Kubeconfig) -> Option<String> {
    let mut contexts = file.contexts.iter();
    let current = contexts.find(|c| c.name == file.current_context)?;
    Some(current.context.user.clone()).filter(|user| !user.is_empty())
}

/// The name under which a host's credentials stand: its own, with stars for its first labels, both again without the port
/// of HTTPS, or a star for all.
fn user(host: &str, known: &dyn Fn(&str) -> bool) -> Option<String> {
    let host = super::with_port(host);
    let names = |host: &str| {
        let labels: Vec<&str> = host.split('.').collect();
        let starred = (1..labels.len()).map(|i| format!("*.{}", labels[i..].join(".")));
        std::iter::once(host.to_owned())
            .chain(starred)
            .collect::<Vec<_>>()
    };
    let mut all = names(&host);
    if let Some(bare) = host.strip_suffix(":443") {
        all.extend(names(bare));
    }
    all.push("*".to_owned());
    all.into_iter().find(|name| known(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(host: &str, users: &[&str]) -> Option<String> {
        user(host, &|name| users.contains(&name))
    }

    #[test]
    fn the_most_exact_name_counts() {
        let all = ["*", "*.svc", "*.ns.svc:443", "a.ns.svc", "a.ns.svc:8443"];
        let of = |host: &str| found(host, &all).unwrap_or_default();
        assert_eq!(of("a.ns.svc:8443"), "a.ns.svc:8443");
        // With the port before without it, whatever is more exact.
        assert_eq!(of("a.ns.svc:443"), "*.ns.svc:443");
        assert_eq!(of("b.other.svc:443"), "*.svc");
        assert_eq!(of("example.com"), "*");
        assert_eq!(
            of("b.other.svc:8443"),
            "*",
            "without the port only 443 is looked for"
        );
        assert_eq!(
            found("example.com", &["example.com"]).as_deref(),
            Some("example.com")
        );
        assert_eq!(found("example.com", &["example.com:8443"]), None);
    }
}
