//! Whose daemons a cluster is made of: ours, but for those that are named here.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::daemon::Daemon;

/// Daemons that are upstream's instead of ours, each on every host or on a named one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Upstream(Vec<Choice>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
struct Choice {
    daemon: Daemon,
    /// Nothing stands for every host.
    host: Option<String>,
}

impl Upstream {
    /// Reads `kube-scheduler,kubelet@node-2`. Before the `@` stands what [`Daemon::parse_list`] takes.
    ///
    /// # Errors
    /// The word that names no daemon.
    pub fn parse(list: &str) -> Result<Self, String> {
        let choices = list.split(',').map(|word| {
            let (daemons, host) = match word.split_once('@') {
                Some((_, "")) => return Err(format!("{word} names no host")),
                Some((daemons, host)) => (daemons, Some(host.to_owned())),
                None => (word, None),
            };
            let daemons = Daemon::parse_list(daemons)?.into_iter();
            let choice = |daemon| Choice {
                daemon,
                host: host.clone(),
            };
            Ok(daemons.map(choice).collect::<Vec<_>>())
        });
        Ok(Self(choices.collect::<Result<Vec<_>, _>>()?.concat()))
    }

    /// These, and `daemon` on `host`.
    #[must_use]
    pub fn and(mut self, daemon: Daemon, host: &str) -> Self {
        self.0.push(Choice {
            daemon,
            host: Some(host.to_owned()),
        });
        self
    }

    /// Whether the daemon of this host is upstream's.
    pub fn runs(&self, daemon: Daemon, host: &str) -> bool {
        let here = |choice: &Choice| choice.host.as_deref().is_none_or(|named| named == host);
        self.0
            .iter()
            .any(|choice| choice.daemon == daemon && here(choice))
    }

    /// Whether upstream's is needed.
    pub fn runs_somewhere(&self, daemon: Daemon) -> bool {
        self.0.iter().any(|choice| choice.daemon == daemon)
    }

    /// Whether ours is not needed.
    pub fn runs_everywhere(&self, daemon: Daemon) -> bool {
        self.0
            .iter()
            .any(|choice| choice.daemon == daemon && choice.host.is_none())
    }

    /// The daemons that are chosen for one host, with that host.
    pub(super) fn on_hosts(&self) -> impl Iterator<Item = (Daemon, &str)> {
        self.0
            .iter()
            .filter_map(|choice| Some((choice.daemon, choice.host.as_deref()?)))
    }
}

impl From<&[Daemon]> for Upstream {
    fn from(daemons: &[Daemon]) -> Self {
        let everywhere = |daemon: &Daemon| Choice {
            daemon: *daemon,
            host: None,
        };
        Self(daemons.iter().map(everywhere).collect())
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.daemon.name())?;
        match &self.host {
            Some(host) => write!(f, "@{host}"),
            None => Ok(()),
        }
    }
}

impl From<Choice> for String {
    fn from(choice: Choice) -> Self {
        choice.to_string()
    }
}

impl TryFrom<String> for Choice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Upstream(mut choices) = Upstream::parse(&text)?;
        match (choices.pop(), choices.is_empty()) {
            (Some(choice), true) => Ok(choice),
            _ => Err(format!("{text} is not one daemon")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Daemon::{KubeApiserver, KubeProxy, KubeScheduler, Kubelet};

    #[test]
    fn a_daemon_is_upstreams_everywhere_or_on_the_named_host() {
        let upstream = Upstream::parse("kube-scheduler,kubelet@node-2").unwrap();
        assert!(upstream.runs(KubeScheduler, "control-plane"));
        assert!(upstream.runs(Kubelet, "node-2") && !upstream.runs(Kubelet, "node-1"));
        assert!(upstream.runs_everywhere(KubeScheduler) && !upstream.runs_everywhere(Kubelet));
        assert!(upstream.runs_somewhere(Kubelet) && !upstream.runs_somewhere(KubeProxy));
        let several = Upstream::parse("control-plane@control-plane-2").unwrap();
        assert!(several.runs(KubeApiserver, "control-plane-2"));
        assert_eq!(Upstream::parse("none").unwrap(), Upstream::default());
    }

    #[test]
    fn what_names_no_daemon_or_no_host_is_refused() {
        for bad in ["kubelets", "kubelet@", "@node-1,x", "etcd"] {
            assert!(Upstream::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn it_is_kept_as_it_is_written() {
        let upstream = Upstream::parse("kubelet@node-1,kube-proxy").unwrap();
        let text = serde_json::to_string(&upstream).unwrap();
        assert_eq!(text, r#"["kubelet@node-1","kube-proxy"]"#);
        assert_eq!(serde_json::from_str::<Upstream>(&text).unwrap(), upstream);
        assert!(serde_json::from_str::<Upstream>(r#"["all"]"#).is_err());
    }
}
