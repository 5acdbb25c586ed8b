//! Certificates, keys and kubeconfigs of one cluster, laid out and named as kubeadm does.
//!
//! Owns `DIR/pki` and `DIR/kubeconfigs`. Three authorities that do not trust each other: `ca` for clients and servers of
//! the API, `etcd/ca` for etcd, `front-proxy-ca` for the identity headers of the aggregation layer.
//!
//! [`Pki::ensure`] may be called at any time: what is valid stays byte for byte, what is missing, near its end, signed by
//! another authority or wanted with other names is made again. Keys are ECDSA P-256 and readable by root alone.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

mod files;
mod kubeconfig;

use crate::files::cannot;
use files::{read, write_private, write_public};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_VALIDITY: Duration = DAY.saturating_mul(3650);
const LEAF_VALIDITY: Duration = DAY.saturating_mul(365);
/// A certificate that ends sooner than this is made again.
const RENEW_BEFORE: Duration = DAY.saturating_mul(30);
/// Clocks of nodes may lag behind.
const BACKDATE: Duration = Duration::from_secs(5 * 60);

#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    File(#[from] crate::files::Error),
    #[error("cannot make the certificate {path}")]
    Make {
        path: PathBuf,
        #[source]
        cause: rcgen::Error,
    },
}

/// The addresses that certificates and kubeconfigs are made for.
#[derive(Clone, Debug)]
pub struct Names {
    /// Where clients reach the API server, or what stands before several.
    pub api_server: Ipv4Addr,
    /// Where each of several API servers listens.
    pub api_servers: Vec<Ipv4Addr>,
    /// The first address of the service range: where pods reach the API server.
    pub kubernetes_service: Ipv4Addr,
    /// Where etcd's members, the scheduler and the controller manager listen.
    pub loopback: Vec<Ipv4Addr>,
    pub nodes: Vec<(String, Ipv4Addr)>,
}

/// What was made, by path.
#[derive(Clone, Debug)]
pub struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// Makes or renews whatever `names` needs below `dir`.
    pub fn ensure(dir: &Path, names: &Names, now: SystemTime) -> Result<Self, Error> {
        let pki = Self {
            dir: dir.to_owned(),
        };
        let authorities = AUTHORITIES
            .iter()
            .map(|(path, name)| Ok((*path, pki.authority(path, name, now)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        for leaf in leaves(names) {
            let (_, authority) = authorities
                .iter()
                .find(|(path, _)| *path == leaf.authority)
                .expect("the leaf table names authorities of the authority table");
            pki.leaf(&leaf, authority, now)?;
        }
        pki.service_account_key()?;
        for (file, credential) in kubeconfigs(names) {
            pki.write_kubeconfig(&file, &credential, names.api_server)?;
        }
        Ok(pki)
    }

    pub fn cert(&self, name: &str) -> PathBuf {
        self.dir.join("pki").join(format!("{name}.crt"))
    }

    pub fn key(&self, name: &str) -> PathBuf {
        self.dir.join("pki").join(format!("{name}.key"))
    }

    /// The public half of the key that signs service account tokens.
    pub fn service_account_public_key(&self) -> PathBuf {
        self.dir.join("pki/sa.pub")
    }

    /// The kubeconfig of a daemon, node or person: `admin`, `scheduler`, `controller-manager`, `kube-proxy`, a node's name.
    pub fn kubeconfig(&self, who: &str) -> PathBuf {
        match who {
            "admin" => self.dir.join("admin.kubeconfig"),
            who => self
                .dir
                .join("kubeconfigs")
                .join(format!("{who}.kubeconfig")),
        }
    }

    fn authority(&self, path: &str, name: &str, now: SystemTime) -> Result<Authority, Error> {
        let (cert, key) = (self.cert(path), self.key(path));
        if let (Some(pem), Some(key)) = (read(&cert)?, read_key(&key)?)
            && let Some(kept) = Authority::kept(pem, key, now)
        {
            return Ok(kept);
        }
        let failed = |cause| Error::Make {
            path: cert.clone(),
            cause,
        };
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = params(name, &[], now, CA_VALIDITY);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let made = params.self_signed(&pair).map_err(failed)?;
        write_private(&key, &pair.serialize_pem())?;
        write_public(&cert, &made.pem())?;
        Ok(Authority {
            id: params.key_identifier(&pair),
            issuer: Issuer::new(params, pair),
        })
    }

    fn leaf(&self, leaf: &Leaf, authority: &Authority, now: SystemTime) -> Result<(), Error> {
        let (cert, key) = (self.cert(&leaf.path), self.key(&leaf.path));
        if let (Some(pem), Some(key)) = (read(&cert)?, read_key(&key)?)
            && leaf.is_served_by(&pem, &key, authority, now)
        {
            return Ok(());
        }
        let failed = |cause| Error::Make {
            path: cert.clone(),
            cause,
        };
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = params(&leaf.common_name, &leaf.sans, now, LEAF_VALIDITY);
        if let Some(organization) = leaf.organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = leaf.usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        let made = params.signed_by(&pair, &authority.issuer).map_err(failed)?;
        // The key first: a crash in between leaves a pair that does not match, which the next call sees and makes again.
        write_private(&key, &pair.serialize_pem())?;
        write_public(&cert, &made.pem())
    }

    fn service_account_key(&self) -> Result<(), Error> {
        let path = self.key("sa");
        let pair = match read_key(&path)? {
            Some(pair) => pair,
            None => {
                let failed = |cause| Error::Make {
                    path: path.clone(),
                    cause,
                };
                let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
                write_private(&path, &pair.serialize_pem())?;
                pair
            }
        };
        write_public(&self.service_account_public_key(), &pair.public_key_pem())
    }

    fn write_kubeconfig(
        &self,
        who: &str,
        credential: &str,
        api_server: Ipv4Addr,
    ) -> Result<(), Error> {
        let need = |path: PathBuf| -> Result<String, Error> {
            Ok(fs::read_to_string(&path).map_err(cannot("read", &path))?)
        };
        let text = kubeconfig::render(&kubeconfig::Parts {
            server: &format!("https://{api_server}:6443"),
            user: who,
            authority: &need(self.cert("ca"))?,
            certificate: &need(self.cert(credential))?,
            key: &need(self.key(credential))?,
        });
        write_private(&self.kubeconfig(who), &text)
    }
}

/// Path below `pki/` and common name of each authority.
const AUTHORITIES: &[(&str, &str)] = &[
    ("ca", "kubernetes-ca"),
    ("etcd/ca", "etcd-ca"),
    ("front-proxy-ca", "front-proxy-ca"),
];

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The subject key identifier, by which leaves name their issuer.
    id: Vec<u8>,
}

impl Authority {
    fn kept(pem: String, key: KeyPair, now: SystemTime) -> Option<Self> {
        let der = x509_parser::pem::parse_x509_pem(pem.as_bytes())
            .ok()?
            .1
            .contents;
        let (_, cert) = X509Certificate::from_der(&der).ok()?;
        let own_key = cert.public_key().subject_public_key.data.as_ref() == key.public_key_raw();
        if !own_key || ends_before(&cert, now + RENEW_BEFORE) {
            return None;
        }
        let id =
            cert.extensions()
                .iter()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                    _ => None,
                })?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).ok()?;
        Some(Self { issuer, id })
    }
}

/// A certificate that is not an authority.
struct Leaf {
    /// Below `pki/`, without extension.
    path: String,
    authority: &'static str,
    common_name: String,
    organization: Option<&'static str>,
    sans: Vec<String>,
    usages: &'static [ExtendedKeyUsagePurpose],
}

const CLIENT: &[ExtendedKeyUsagePurpose] = &[ExtendedKeyUsagePurpose::ClientAuth];
const SERVER: &[ExtendedKeyUsagePurpose] = &[ExtendedKeyUsagePurpose::ServerAuth];
/// etcd's members serve and dial each other with one certificate.
const PEER: &[ExtendedKeyUsagePurpose] = &[
    ExtendedKeyUsagePurpose::ServerAuth,
    ExtendedKeyUsagePurpose::ClientAuth,
];

/// Every leaf of a cluster. Common names and organizations are the identities that upstream's bootstrap roles know.
fn leaves(names: &Names) -> Vec<Leaf> {
    let mut all = clients();
    all.extend(servers(names));
    for (node, address) in &names.nodes {
        let identity = format!("system:node:{node}");
        all.push(client(node, "ca", &identity, Some("system:nodes")));
        let sans = vec![node.clone(), address.to_string()];
        all.push(server(
            &format!("{node}-server"),
            "ca",
            &identity,
            sans,
            SERVER,
        ));
    }
    all
}

fn clients() -> Vec<Leaf> {
    const MASTERS: Option<&str> = Some("system:masters");
    vec![
        client(
            "apiserver-kubelet-client",
            "ca",
            "kube-apiserver-kubelet-client",
            MASTERS,
        ),
        client("admin", "ca", "kubernetes-admin", MASTERS),
        client(
            "controller-manager",
            "ca",
            "system:kube-controller-manager",
            None,
        ),
        client("scheduler", "ca", "system:kube-scheduler", None),
        client(
            "kube-proxy",
            "ca",
            "system:kube-proxy",
            Some("system:node-proxier"),
        ),
        client(
            "front-proxy-client",
            "front-proxy-ca",
            "front-proxy-client",
            None,
        ),
        client(
            "apiserver-etcd-client",
            "etcd/ca",
            "kube-apiserver-etcd-client",
            None,
        ),
    ]
}

fn servers(names: &Names) -> Vec<Leaf> {
    let mut loopback: Vec<String> = names.loopback.iter().map(Ipv4Addr::to_string).collect();
    // Members of etcd are also known by the address that this machine calls its own loopback addresses from.
    loopback.extend(["127.0.0.1", "localhost"].map(str::to_owned));
    let mut api_server = loopback.clone();
    api_server.extend(
        [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        .map(str::to_owned),
    );
    let addresses = [names.kubernetes_service, names.api_server].into_iter();
    api_server.extend(
        addresses
            .chain(names.api_servers.iter().copied())
            .map(|address| address.to_string()),
    );
    vec![
        server("apiserver", "ca", "kube-apiserver", api_server, SERVER),
        server(
            "controller-manager-server",
            "ca",
            "kube-controller-manager",
            loopback.clone(),
            SERVER,
        ),
        server(
            "scheduler-server",
            "ca",
            "kube-scheduler",
            loopback.clone(),
            SERVER,
        ),
        server(
            "registry",
            "ca",
            "registry",
            vec![names.api_server.to_string()],
            SERVER,
        ),
        server("etcd/server", "etcd/ca", "etcd", loopback.clone(), PEER),
        server("etcd/peer", "etcd/ca", "etcd", loopback, PEER),
    ]
}

fn client(
    path: &str,
    authority: &'static str,
    common_name: &str,
    organization: Option<&'static str>,
) -> Leaf {
    Leaf {
        path: path.to_owned(),
        authority,
        common_name: common_name.to_owned(),
        organization,
        sans: Vec::new(),
        usages: CLIENT,
    }
}

fn server(
    path: &str,
    authority: &'static str,
    common_name: &str,
    sans: Vec<String>,
    usages: &'static [ExtendedKeyUsagePurpose],
) -> Leaf {
    Leaf {
        path: path.to_owned(),
        authority,
        common_name: common_name.to_owned(),
        organization: None,
        sans,
        usages,
    }
}

/// Kubeconfig and the leaf whose identity it carries.
fn kubeconfigs(names: &Names) -> Vec<(String, String)> {
    let fixed = ["admin", "controller-manager", "scheduler", "kube-proxy"];
    let nodes = names.nodes.iter().map(|(node, _)| node.as_str());
    fixed
        .into_iter()
        .chain(nodes)
        .map(|who| (who.to_owned(), who.to_owned()))
        .collect()
}

impl Leaf {
    /// Whether the certificate on disk still is what this leaf asks for.
    fn is_served_by(
        &self,
        pem: &str,
        key: &KeyPair,
        authority: &Authority,
        now: SystemTime,
    ) -> bool {
        let Ok((_, block)) = x509_parser::pem::parse_x509_pem(pem.as_bytes()) else {
            return false;
        };
        let Ok((_, cert)) = X509Certificate::from_der(&block.contents) else {
            return false;
        };
        cert.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
            && !ends_before(&cert, now + RENEW_BEFORE)
            && issuer_id(&cert) == Some(authority.id.as_slice())
            && cert
                .subject()
                .iter_common_name()
                .any(|name| name.as_str() == Ok(&self.common_name))
            && subject_names(&cert) == sorted(self.sans.clone())
    }
}

fn issuer_id<'a>(cert: &'a X509Certificate<'a>) -> Option<&'a [u8]> {
    cert.extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0)
            }
            _ => None,
        })
}

fn subject_names(cert: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = cert.subject_alternative_name() else {
        return Vec::new();
    };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(octets) => <[u8; 4]>::try_from(*octets)
            .ok()
            .map(|octets| Ipv4Addr::from(octets).to_string()),
        _ => None,
    };
    sorted(names.value.general_names.iter().filter_map(text).collect())
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

fn ends_before(cert: &X509Certificate<'_>, when: SystemTime) -> bool {
    let when = when
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(cert.validity().not_after.timestamp()).unwrap_or(0) < when.as_secs()
}

/// A key that cannot be parsed counts as missing and is replaced with its certificate.
fn read_key(path: &Path) -> Result<Option<KeyPair>, Error> {
    Ok(read(path)?.and_then(|pem| KeyPair::from_pem(&pem).ok()))
}

fn params(
    common_name: &str,
    sans: &[String],
    now: SystemTime,
    validity: Duration,
) -> CertificateParams {
    let mut params =
        CertificateParams::new(sans).expect("the names are addresses and ASCII host names");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + validity).into();
    params
}

#[cfg(test)]
mod tests;
