//! Which hosts are asked for a registry's images: mirrors, their certificates, then itself.
//!
//! Two ways to say it: directories in containerd's format (`<dir>/<host>/hosts.toml`), for those
//! who have them, and [`Config::mirrors`].

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use http::{HeaderName, HeaderValue, Uri};
use serde::Deserialize;

/// Where to look, and mirrors.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Directories as containerd's `config_path`; the first that knows the registry counts.
    pub directories: Vec<PathBuf>,
    /// Hosts by registry (`docker.io`), asked in this order before the registry itself.
    pub mirrors: BTreeMap<String, Vec<Host>>,
}

/// Why the hosts of a registry are not known.
#[derive(thiserror::Error, Debug)]
pub enum HostsError {
    #[error("read {path}: {source}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {reason}", path = path.display())]
    Format { path: PathBuf, reason: String },
    #[error("{0:?} is not the address of a registry")]
    Address(String),
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    uri: Uri,
    /// May say what a tag means.
    pub resolve: bool,
    /// May give content by digest.
    pub pull: bool,
    pub tls: Tls,
    /// Sent with each request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Not the registry itself: it is told which one is meant, and gets no credentials of pods.
    pub is_mirror: bool,
}

/// How a host proves who it is, and we to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// PEM files of authorities, beside the machine's own.
    pub authorities: Vec<PathBuf>,
    /// PEM files of a certificate and its key; the key may be in the first.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Believe everybody.
    pub skip_verify: bool,
}

impl Host {
    /// A mirror that is asked for everything. Its address may have a path, under which the API is.
    pub fn mirror(address: &str) -> Result<Self, HostsError> {
        Ok(Self {
            is_mirror: true,
            ..Self::new(address, false)?
        })
    }

    fn new(address: &str, override_path: bool) -> Result<Self, HostsError> {
        let bad = || HostsError::Address(address.to_owned());
        let with_scheme = match address.contains("://") {
            true => address.to_owned(),
            false => format!("https://{address}"),
        };
        let given: Uri = with_scheme.parse().map_err(|_| bad())?;
        let scheme = given
            .scheme_str()
            .filter(|s| matches!(*s, "http" | "https"));
        let (scheme, authority) = scheme.zip(given.authority()).ok_or_else(bad)?;
        let path = given.path().trim_end_matches('/');
        let path = match path {
            _ if override_path || path.ends_with("/v2") => path.to_owned(),
            _ => format!("{path}/v2"),
        };
        let uri = format!("{scheme}://{authority}{path}")
            .parse()
            .map_err(|_| bad())?;
        Ok(Self {
            uri,
            resolve: true,
            pull: true,
            tls: Tls::default(),
            headers: Vec::new(),
            is_mirror: false,
        })
    }

    /// The registry of this name itself.
    fn itself(domain: &str) -> Result<Self, HostsError> {
        let name = domain.rsplit_once(':').map_or(domain, |(name, _)| name);
        match name {
            "docker.io" => Self::new("https://registry-1.docker.io", false),
            // As every runtime does: on one's own machine a certificate proves nothing.
            "localhost" | "127.0.0.1" | "[::1]" => Self::new(&format!("http://{domain}"), false),
            _ => Self::new(&format!("https://{domain}"), false),
        }
    }

    pub(super) fn authority(&self) -> &str {
        self.uri
            .authority()
            .map_or("", |authority| authority.as_str())
    }

    pub(super) fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Everything before the repository's name.
    pub(super) fn base(&self) -> String {
        self.uri.to_string().trim_end_matches('/').to_owned()
    }
}

impl Config {
    /// The hosts of a registry, in the order in which they are asked.
    pub(super) fn of(&self, domain: &str) -> Result<Vec<Host>, HostsError> {
        let mut hosts = self.mirrors.get(domain).cloned().unwrap_or_default();
        for dir in self
            .directories
            .iter()
            .flat_map(|dir| candidates(dir, domain))
        {
            let file = dir.join("hosts.toml");
            match fs::read_to_string(&file) {
                Ok(text) => {
                    hosts.extend(parse(&text, &dir, domain)?);
                    return Ok(hosts);
                }
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(HostsError::Read { path: file, source }),
            }
            if dir.is_dir() {
                let tls = certificates(&dir)?;
                let itself = match tls == Tls::default() {
                    true => Host::itself(domain)?,
                    // Who installs certificates means TLS, on one's own machine too.
                    false => Host::new(&format!("https://{domain}"), false)?,
                };
                hosts.push(Host { tls, ..itself });
                return Ok(hosts);
            }
        }
        hosts.push(Host::itself(domain)?);
        Ok(hosts)
    }
}

/// Directories of one registry, the most specific first.
fn candidates(dir: &Path, domain: &str) -> Vec<PathBuf> {
    let port = domain
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let escaped = port.map(|(host, port)| dir.join(format!("{host}_{port}_")));
    escaped
        .into_iter()
        .chain([dir.join(domain), dir.join("_default")])
        .collect()
}

/// Docker's layout: `*.crt` are authorities, `*.cert` with `*.key` are ours.
fn certificates(dir: &Path) -> Result<Tls, HostsError> {
    let entries = fs::read_dir(dir).map_err(|source| HostsError::Read {
        path: dir.to_owned(),
        source,
    })?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let with = |extension: &'static str| {
        paths
            .iter()
            .filter(move |path| path.extension().is_some_and(|e| e == extension))
    };
    Ok(Tls {
        authorities: with("crt").cloned().collect(),
        client: with("cert")
            .next()
            .map(|cert| (cert.clone(), cert.with_extension("key"))),
        skip_verify: false,
    })
}

/// One value or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Many<T> {
    One(T),
    Several(Vec<T>),
}

impl<T> Many<T> {
    fn list(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Several(several) => several,
        }
    }
}

/// A certificate, alone or with its key.
#[derive(Deserialize)]
#[serde(untagged)]
enum Client {
    Both(PathBuf),
    Pair(PathBuf, PathBuf),
}

#[derive(Deserialize, Default)]
struct Section {
    capabilities: Option<Vec<String>>,
    ca: Option<Many<PathBuf>>,
    client: Option<Many<Client>>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    header: toml::map::Map<String, toml::Value>,
    #[serde(default)]
    override_path: bool,
}

pub(crate) fn parse(text: &str, dir: &Path, domain: &str) -> Result<Vec<Host>, HostsError> {
    let path = dir.join("hosts.toml");
    let bad = |reason: String| HostsError::Format {
        path: path.clone(),
        reason,
    };
    let mut root: toml::Table = text
        .parse()
        .map_err(|e: toml::de::Error| bad(e.to_string()))?;
    let server = root.remove("server");
    // In the order of the file: that is the order in which they are asked.
    let sections = match root.remove("host") {
        Some(toml::Value::Table(table)) => table,
        Some(_) => return Err(bad("host is not a table".into())),
        None => toml::Table::new(),
    };
    let mut hosts = Vec::new();
    for (address, section) in sections {
        let section: Section = section
            .try_into()
            .map_err(|e: toml::de::Error| bad(format!("host {address:?}: {}", e.message())))?;
        let mirror = Host {
            is_mirror: true,
            ..Host::new(&address, section.override_path)?
        };
        hosts.push(section.apply(mirror, dir).map_err(&bad)?);
    }
    let section: Section = toml::Value::Table(root)
        .try_into()
        .map_err(|e: toml::de::Error| bad(e.message().to_owned()))?;
    let itself = match server {
        None => Host::itself(domain)?,
        Some(toml::Value::String(address)) => Host::new(&address, section.override_path)?,
        Some(_) => return Err(bad("server is not a string".into())),
    };
    hosts.push(section.apply(itself, dir).map_err(bad)?);
    Ok(hosts)
}

impl Section {
    fn apply(self, host: Host, dir: &Path) -> Result<Host, String> {
        let mut headers = Vec::new();
        for (name, values) in self.header {
            let values: Many<String> = values
                .try_into()
                .map_err(|_| format!("header {name:?} is not text"))?;
            let name: HeaderName = name
                .parse()
                .map_err(|_| format!("{name:?} is not a header's name"))?;
            for value in values.list() {
                let value = value
                    .parse()
                    .map_err(|_| format!("bad value of header {name}"))?;
                headers.push((name.clone(), value));
            }
        }
        let client = self.client.into_iter().flat_map(Many::list).next();
        let client = client.map(|client| match client {
            Client::Both(file) => (dir.join(&file), dir.join(file)),
            Client::Pair(cert, key) => (dir.join(cert), dir.join(key)),
        });
        let authorities = self
            .ca
            .into_iter()
            .flat_map(Many::list)
            .map(|ca| dir.join(ca));
        let can = |what: &str| {
            self.capabilities
                .as_ref()
                .is_none_or(|list| list.iter().any(|c| c == what))
        };
        Ok(Host {
            resolve: can("resolve"),
            pull: can("pull"),
            tls: Tls {
                authorities: authorities.collect(),
                client,
                skip_verify: self.skip_verify,
            },
            headers,
            ..host
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_come_in_the_order_of_the_file_and_the_registry_last() {
        let text = r#"
            server = "https://registry-1.docker.io"
            [host."https://z.mirror:5000/hub"]
              capabilities = ["pull"]
              ca = ["a.pem", "/b.pem"]
              client = [["c.crt", "c.key"]]
              [host."https://z.mirror:5000/hub".header]
                x-one = "1"
                x-two = ["2", "3"]
            [host."http://a.mirror/v2/prefix"]
              override_path = true
              skip_verify = true
        "#;
        let hosts = parse(text, Path::new("/d"), "docker.io").unwrap();
        let bases: Vec<_> = hosts.iter().map(Host::base).collect();
        assert_eq!(
            bases,
            [
                "https://z.mirror:5000/hub/v2",
                "http://a.mirror/v2/prefix",
                "https://registry-1.docker.io/v2",
            ]
        );
        assert!(hosts[0].pull && !hosts[0].resolve && hosts[0].is_mirror);
        assert_eq!(
            hosts[0].tls.authorities,
            [Path::new("/d/a.pem"), Path::new("/b.pem")]
        );
        assert_eq!(
            hosts[0].tls.client,
            Some(("/d/c.crt".into(), "/d/c.key".into()))
        );
        assert_eq!(hosts[0].headers.len(), 3);
        assert!(hosts[1].tls.skip_verify && !hosts[2].is_mirror);
    }

    #[test]
    fn the_directory_of_the_registry_is_found_with_its_port() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            directories: vec![dir.path().into()],
            ..Config::default()
        };
        let bases = |domain: &str| -> Vec<String> {
            config.of(domain).unwrap().iter().map(Host::base).collect()
        };
        assert_eq!(bases("quay.io"), ["https://quay.io/v2"]);
        assert_eq!(bases("docker.io"), ["https://registry-1.docker.io/v2"]);
        assert_eq!(bases("localhost:5000"), ["http://localhost:5000/v2"]);
        let put = |name: &str, text: &str| {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("hosts.toml"), text).unwrap();
        };
        put("_default", "[host.\"https://any\"]\n");
        put("quay.io_5000_", "[host.\"https://ported\"]\n");
        assert_eq!(
            bases("quay.io:5000"),
            ["https://ported/v2", "https://quay.io:5000/v2"]
        );
        assert_eq!(bases("quay.io"), ["https://any/v2", "https://quay.io/v2"]);
        fs::create_dir(dir.path().join("ghcr.io")).unwrap();
        fs::write(dir.path().join("ghcr.io/ca.crt"), "").unwrap();
        let hosts = config.of("ghcr.io").unwrap();
        assert_eq!(
            hosts[0].tls.authorities,
            [dir.path().join("ghcr.io/ca.crt")]
        );
    }

    #[test]
    fn a_broken_file_is_named() {
        let err = |text: &str| {
            parse(text, Path::new("/d"), "x.io")
                .unwrap_err()
                .to_string()
        };
        assert!(err("host = 3").starts_with("/d/hosts.toml: "));
        assert!(err("[host.\"ftp://x\"]").contains("ftp://x"));
        assert!(err("[host.\"https://x\"]\nskip_verify = 1").contains("https://x"));
    }
}
