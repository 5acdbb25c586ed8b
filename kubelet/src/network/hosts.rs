//! A pod's host name, `/etc/hosts` and `/etc/hostname`: upstream's `pkg/kubelet/kubelet_pods.go`.
//! Pure.

use std::fmt::Write;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostAlias, Pod};

/// Why a pod has no host name.
#[derive(thiserror::Error, Clone, Debug, PartialEq, Eq)]
pub enum Error {
    #[error("pod HostnameOverride {0:?} is not a valid DNS subdomain")]
    Override(String),
    #[error("pod Hostname {0:?} is not a valid DNS label")]
    Hostname(String),
    #[error("pod Subdomain {0:?} is not a valid DNS label")]
    Subdomain(String),
    #[error("hostname for pod {pod:?} was invalid: {hostname:?}")]
    Empty { pod: String, hostname: String },
}

/// Characters of a host name that the kernel takes, less the final zero.
const HOSTNAME_MAX: usize = 63;

/// The short name of a pod and the domain that it is in, empty for none.
pub fn hostname_and_domain(pod: &Pod, cluster_domain: &str) -> Result<(String, String), Error> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let Some(spec) = &pod.spec else {
        return Ok((truncated(name, name)?, String::new()));
    };
    if let Some(given) = &spec.hostname_override {
        if given.len() > 253 || !given.split('.').all(is_label) {
            return Err(Error::Override(given.clone()));
        }
        return Ok((truncated(name, given)?, String::new()));
    }
    let hostname = match spec.hostname.as_deref() {
        None | Some("") => name,
        Some(given) if is_label(given) => given,
        Some(given) => return Err(Error::Hostname(given.to_owned())),
    };
    let hostname = truncated(name, hostname)?;
    let domain = match spec.subdomain.as_deref() {
        None | Some("") => String::new(),
        Some(given) if is_label(given) => format!("{given}.{namespace}.svc.{cluster_domain}"),
        Some(given) => return Err(Error::Subdomain(given.to_owned())),
    };
    Ok((hostname, domain))
}

fn truncated(pod: &str, hostname: &str) -> Result<String, Error> {
    if hostname.len() <= HOSTNAME_MAX {
        return Ok(hostname.to_owned());
    }
    let cut: String = hostname.chars().take(HOSTNAME_MAX).collect();
    match cut.trim_end_matches(['-', '.']) {
        "" => Err(Error::Empty {
            pod: pod.to_owned(),
            hostname: hostname.to_owned(),
        }),
        cut => Ok(cut.to_owned()),
    }
}

/// A DNS label of RFC 1123.
fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !label.is_empty()
        && label.len() <= 63
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// `/etc/hosts` of a pod with a network of its own.
pub fn managed_hosts(
    ips: &[IpAddr],
    hostname: &str,
    domain: &str,
    aliases: &[HostAlias],
) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        match domain {
            "" => line(&mut text, format_args!("{ip}\t{hostname}")),
            _ => line(
                &mut text,
                format_args!("{ip}\t{hostname}.{domain}\t{hostname}"),
            ),
        }
    }
    add_aliases(&mut text, aliases);
    text
}

/// `/etc/hosts` of a pod in the node's network: the node's own, with the aliases.
pub fn node_hosts(node: &str, aliases: &[HostAlias]) -> String {
    let mut text = format!("# Kubernetes-managed hosts file (host network).\n{node}");
    add_aliases(&mut text, aliases);
    text
}

/// `/etc/hostname`.
pub fn hostname_file(hostname: &str) -> String {
    format!("{hostname}\n")
}

fn add_aliases(text: &mut String, aliases: &[HostAlias]) {
    if aliases.is_empty() {
        return;
    }
    text.push_str("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias
            .hostnames
            .iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join("\t");
        line(text, format_args!("{}\t{names}", alias.ip));
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;

    fn pod(name: &str, spec: PodSpec) -> Pod {
        let mut pod = Pod {
            spec: Some(spec),
            ..Pod::default()
        };
        pod.metadata.name = Some(name.into());
        pod.metadata.namespace = Some("ns".into());
        pod
    }

    #[test]
    fn a_pod_is_called_as_its_specification_says_or_by_its_name() {
        let names = |spec| hostname_and_domain(&pod("web-0", spec), "cluster.local");
        let text = |s: &str| Some(s.to_owned());
        let got = names(PodSpec::default()).unwrap();
        assert_eq!(got, ("web-0".into(), String::new()));
        let spec = PodSpec {
            hostname: text("h"),
            subdomain: text("sub"),
            ..PodSpec::default()
        };
        assert_eq!(
            names(spec).unwrap(),
            ("h".into(), "sub.ns.svc.cluster.local".into())
        );
        let spec = PodSpec {
            hostname_override: text("a.b"),
            subdomain: text("sub"),
            ..PodSpec::default()
        };
        assert_eq!(names(spec).unwrap(), ("a.b".into(), String::new()));
        let bad = PodSpec {
            hostname: text("A"),
            ..PodSpec::default()
        };
        assert_eq!(names(bad), Err(Error::Hostname("A".into())));
    }

    #[test]
    fn long_names_are_cut_and_do_not_end_in_a_dash() {
        let name = format!("{}-{}", "a".repeat(62), "b".repeat(20));
        let (hostname, _) = hostname_and_domain(&pod(&name, PodSpec::default()), "").unwrap();
        assert_eq!(hostname, "a".repeat(62));
    }

    #[test]
    fn hosts_names_every_address_and_then_the_aliases() {
        let ips = ["10.0.0.5".parse().unwrap(), "fd00::5".parse().unwrap()];
        let alias = HostAlias {
            ip: "192.0.2.7".into(),
            hostnames: Some(vec!["db".into(), "db.example".into()]),
        };
        let text = managed_hosts(&ips, "web", "d", std::slice::from_ref(&alias));
        assert!(text.ends_with(
            "fe00::2\tip6-allrouters\n10.0.0.5\tweb.d\tweb\nfd00::5\tweb.d\tweb\n\n\
             # Entries added by HostAliases.\n192.0.2.7\tdb\tdb.example\n"
        ));
        assert!(managed_hosts(&ips, "web", "", &[]).ends_with("10.0.0.5\tweb\nfd00::5\tweb\n"));
        let node = node_hosts("127.0.0.1 localhost\n", &[alias]);
        assert!(node.starts_with("# Kubernetes-managed hosts file (host network).\n127"));
    }
}
