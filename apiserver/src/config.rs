//! The API server's configuration: upstream's flags, checked and completed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use component::args::{self, Args, Flag, Group};
use component::config::Logging;
use component::features::Features;
use component::serving::{Endpoints, Options, Pages};
use ipnet::IpNet;

use crate::chain::browser::Browsers;
use crate::flowcontrol;
use crate::registry::served::{Choice, Served};

macro_rules! flags {
    ($($constant:ident: $type:ty = $name:literal, $default:literal, $help:literal $(, $fate:ident($why:expr))?;)*) => {
        $(#[doc = concat!("`--", $name, "`: ", $help)]
        pub const $constant: Flag<$type> = Flag::new($name, $default, $help)$(.$fate($why))?;)*
    };
}

pub mod admission;
pub mod audit;
pub mod authentication;
pub mod authorization;
pub mod debugging;
mod etcd;
pub mod ignored;
mod in_flight;
mod peers;
pub mod tokens;

pub use admission::AdmissionConfig;
pub use audit::AuditConfig;
use authentication::Authentication;
pub use authentication::RequestHeader;
use authorization::Authorization;
pub use debugging::Debugging;
pub use etcd::{EncryptionConfig, Etcd, Override};
pub use peers::PeerConfig;
pub use tokens::Tokens;

/// Why a flag of upstream has no effect here.
const NO_EFFECT: &str = "this server needs no such tuning";

flags! {
    ADVERTISE_ADDRESS: Option<IpAddr> = "advertise-address", "", "The address that members of the cluster reach this server at; defaults to the bind address or the default route's.";
    ALLOW_PRIVILEGED: bool = "allow-privileged", "false", "Allow privileged containers.";
    EVENT_TTL: Duration = "event-ttl", "1h0m0s", "How long events are kept.";
    SERVICE_CLUSTER_IP_RANGE: Vec<String> = "service-cluster-ip-range", "10.0.0.0/24", "The ranges of cluster IPs, one per family, the primary first.";
    SERVICE_NODE_PORT_RANGE: String = "service-node-port-range", "30000-32767", "The range of node ports, inclusive.";
    KUBERNETES_SERVICE_NODE_PORT: u16 = "kubernetes-service-node-port", "0", "A node port for the service of the API server itself; 0 means none.";
    ENDPOINT_RECONCILER_TYPE: String = "endpoint-reconciler-type", "lease", "How the endpoints of the API server's service are kept: lease or none.";
    APISERVER_COUNT: i64 = "apiserver-count", "1", "The number of API servers.", ignored("endpoints are kept by leases");
    IDENTITY_LEASE_DURATION: i64 = "identity-lease-duration-seconds", "3600", "How long this server's identity lease lives.";

    ETCD_SERVERS: Vec<String> = "etcd-servers", "", "The etcd members, as scheme://host:port.";
    ETCD_SERVERS_OVERRIDES: Vec<String> = "etcd-servers-overrides", "", "Resources on an etcd of their own, such as /events#https://a:2379;https://b:2379; apps/*: all of a group.";
    ETCD_PREFIX: String = "etcd-prefix", "/registry", "Prepended to every key.";
    ETCD_CAFILE: Option<PathBuf> = "etcd-cafile", "", "The authorities of etcd's certificate.";
    ETCD_CERTFILE: Option<PathBuf> = "etcd-certfile", "", "The client certificate for etcd.";
    ETCD_KEYFILE: Option<PathBuf> = "etcd-keyfile", "", "The key of --etcd-certfile.";
    ETCD_COMPACTION_INTERVAL: Duration = "etcd-compaction-interval", "5m0s", "How often old revisions are compacted; 0 leaves it to others.";
    ETCD_COUNT_METRIC_POLL_PERIOD: Duration = "etcd-count-metric-poll-period", "1m0s", "How often objects are counted.", ignored("objects are counted as they come and go");
    ETCD_DB_METRIC_POLL_INTERVAL: Duration = "etcd-db-metric-poll-interval", "30s", "How often etcd is asked for its size.", ignored("etcd is asked when metrics are asked for");
    ETCD_HEALTHCHECK_TIMEOUT: Duration = "etcd-healthcheck-timeout", "2s", "How long etcd's health check may take.";
    ETCD_READYCHECK_TIMEOUT: Duration = "etcd-readycheck-timeout", "2s", "How long etcd's readiness check may take.";
    LEASE_REUSE_DURATION: i64 = "lease-reuse-duration-seconds", "60", "How long an etcd lease takes new keys.";
    STORAGE_BACKEND: String = "storage-backend", "etcd3", "The storage: etcd3.";
    STORAGE_MEDIA_TYPE: String = "storage-media-type", "application/vnd.kubernetes.protobuf", "The form of stored objects.";
    WATCH_CACHE: bool = "watch-cache", "true", "Serve reads and watches from memory.", ignored("reads are always served from memory");
    WATCH_CACHE_SIZES: Vec<String> = "watch-cache-sizes", "", "Sizes of watch caches.", ignored("caches are bounded by bytes and time");
    DEFAULT_WATCH_CACHE_SIZE: i64 = "default-watch-cache-size", "100", "The size of watch caches.", ignored("caches are bounded by bytes and time");
    DELETE_COLLECTION_WORKERS: i64 = "delete-collection-workers", "1", "Deletes of a collection at once.", ignored(NO_EFFECT);
    ENCRYPTION_PROVIDER_CONFIG: Option<PathBuf> = "encryption-provider-config", "", "The file that says which resources are encrypted at rest, and how.";
    ENCRYPTION_PROVIDER_CONFIG_RELOAD: bool = "encryption-provider-config-automatic-reload", "false", "Read --encryption-provider-config again when it changes.";

    ANONYMOUS_AUTH: bool = "anonymous-auth", "true", "Serve requests without credentials as system:anonymous.";


    KUBELET_CA: Option<PathBuf> = "kubelet-certificate-authority", "", "The authorities of kubelets' certificates.";
    KUBELET_CLIENT_CERT: Option<PathBuf> = "kubelet-client-certificate", "", "The client certificate for kubelets.";
    KUBELET_CLIENT_KEY: Option<PathBuf> = "kubelet-client-key", "", "The key of --kubelet-client-certificate.";
    KUBELET_PREFERRED_ADDRESS_TYPES: Vec<String> = "kubelet-preferred-address-types", "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP", "Which of a node's addresses are tried, in order.";
    KUBELET_TIMEOUT: Duration = "kubelet-timeout", "5s", "How long a connection to a kubelet may take.";
    PROXY_CLIENT_CERT_FILE: Option<PathBuf> = "proxy-client-cert-file", "", "The client certificate for aggregated servers.";
    PROXY_CLIENT_KEY_FILE: Option<PathBuf> = "proxy-client-key-file", "", "The key of --proxy-client-cert-file.";
    PEER_CA_FILE: Option<PathBuf> = "peer-ca-file", "", "The authorities of the certificates of other API servers, which are then asked for what this one does not serve.";
    PEER_ADVERTISE_IP: String = "peer-advertise-ip", "", "The address at which other API servers reach this one, with --peer-advertise-port.";
    PEER_ADVERTISE_PORT: String = "peer-advertise-port", "", "The port at which other API servers reach this one, with --peer-advertise-ip.";
    ENABLE_AGGREGATOR_ROUTING: bool = "enable-aggregator-routing", "false", "Send requests to endpoints of aggregated servers instead of their cluster IPs.";

    MAX_REQUESTS: usize = "max-requests-inflight", "400", "Reads at once; without fairness 0 means no limit.";
    MAX_MUTATING_REQUESTS: usize = "max-mutating-requests-inflight", "200", "Writes at once; without fairness 0 means no limit.";
    ENABLE_PRIORITY_AND_FAIRNESS: bool = "enable-priority-and-fairness", "true", "Share the sum of both limits out by priority levels and flow schemas.";
    REQUEST_TIMEOUT: Duration = "request-timeout", "1m0s", "How long a request may take; watches and streams have other bounds.";
    MIN_REQUEST_TIMEOUT: i64 = "min-request-timeout", "1800", "Seconds that a watch lasts at least: up to twice as long, so that not all end at once.";
    SHUTDOWN_DELAY: Duration = "shutdown-delay-duration", "0s", "How long to serve on after the end began.";
    LIVEZ_GRACE_PERIOD: Duration = "livez-grace-period", "0s", "How long the start may take before /livez fails.";
    GOAWAY_CHANCE: f32 = "goaway-chance", "0", "The share of requests, up to 0.02, after which an HTTP/2 client is asked to open another connection, so that load spreads.";
    EXTERNAL_HOSTNAME: String = "external-hostname", "", "The host name in addresses that are handed out.";
    RUNTIME_CONFIG: std::collections::BTreeMap<String, String> = "runtime-config", "", "API versions to serve or not: group/version=true, api/all, api/beta, api/alpha.";
    EMULATION_FORWARD_COMPATIBLE: bool = "emulation-forward-compatible", "false", "Serve newer versions of what the emulated version has, though it does not have them.";
    RUNTIME_CONFIG_EMULATION_FORWARD_COMPATIBLE: bool = "runtime-config-emulation-forward-compatible", "false", "Serve what --runtime-config names though the emulated version does not have it, instead of refusing to start.";
    CORS_ALLOWED_ORIGINS: Vec<String> = "cors-allowed-origins", "", "Patterns of origins whose scripts may ask, such as '^https://example\\.com(:|$)'.";
    STRICT_TRANSPORT_SECURITY: Vec<String> = "strict-transport-security-directives", "", "What browsers are told of TLS: max-age=SECONDS, includeSubDomains, preload.";
}

/// Groups of flags, as the help shows them.
#[must_use]
pub fn groups() -> Vec<Group> {
    vec![
        generic(),
        etcd_flags(),
        args::secure_serving()
            .with_default(&args::SECURE_PORT, "6443")
            .with_default(&args::CERT_DIR, "/var/run/kubernetes"),
        authentication::group(),
        Group::new(
            "Authorization",
            &[
                &authorization::AUTHORIZATION_MODE,
                &authorization::AUTHORIZATION_CONFIG,
                &authorization::POLICY_FILE,
                &authorization::WEBHOOK_CONFIG_FILE,
                &authorization::WEBHOOK_VERSION,
                &authorization::WEBHOOK_AUTHORIZED_TTL,
                &authorization::WEBHOOK_UNAUTHORIZED_TTL,
            ],
        ),
        admission::group(),
        Group::new(
            "Kubelets and aggregated servers",
            &[
                &KUBELET_CA,
                &KUBELET_CLIENT_CERT,
                &KUBELET_CLIENT_KEY,
                &KUBELET_PREFERRED_ADDRESS_TYPES,
                &KUBELET_TIMEOUT,
                &PROXY_CLIENT_CERT_FILE,
                &PROXY_CLIENT_KEY_FILE,
                &PEER_CA_FILE,
                &PEER_ADVERTISE_IP,
                &PEER_ADVERTISE_PORT,
                &ENABLE_AGGREGATOR_ROUTING,
            ],
        ),
        audit::group(),
        debugging::group(),
        ignored::group(),
        args::metrics(),
        args::logs(),
        args::global(),
        args::versions(),
    ]
}

fn generic() -> Group {
    Group::new(
        "Generic",
        &[
            &ADVERTISE_ADDRESS,
            &ALLOW_PRIVILEGED,
            &EVENT_TTL,
            &SERVICE_CLUSTER_IP_RANGE,
            &SERVICE_NODE_PORT_RANGE,
            &KUBERNETES_SERVICE_NODE_PORT,
            &ENDPOINT_RECONCILER_TYPE,
            &APISERVER_COUNT,
            &IDENTITY_LEASE_DURATION,
            &MAX_REQUESTS,
            &MAX_MUTATING_REQUESTS,
            &ENABLE_PRIORITY_AND_FAIRNESS,
            &REQUEST_TIMEOUT,
            &MIN_REQUEST_TIMEOUT,
            &SHUTDOWN_DELAY,
            &LIVEZ_GRACE_PERIOD,
            &GOAWAY_CHANCE,
            &EXTERNAL_HOSTNAME,
            &RUNTIME_CONFIG,
            &EMULATION_FORWARD_COMPATIBLE,
            &RUNTIME_CONFIG_EMULATION_FORWARD_COMPATIBLE,
            &CORS_ALLOWED_ORIGINS,
            &STRICT_TRANSPORT_SECURITY,
        ],
    )
}

fn etcd_flags() -> Group {
    Group::new(
        "Etcd",
        &[
            &ETCD_SERVERS,
            &ETCD_SERVERS_OVERRIDES,
            &ETCD_PREFIX,
            &ETCD_CAFILE,
            &ETCD_CERTFILE,
            &ETCD_KEYFILE,
            &ETCD_COMPACTION_INTERVAL,
            &ETCD_COUNT_METRIC_POLL_PERIOD,
            &ETCD_DB_METRIC_POLL_INTERVAL,
            &ETCD_HEALTHCHECK_TIMEOUT,
            &ETCD_READYCHECK_TIMEOUT,
            &LEASE_REUSE_DURATION,
            &STORAGE_BACKEND,
            &STORAGE_MEDIA_TYPE,
            &WATCH_CACHE,
            &WATCH_CACHE_SIZES,
            &DEFAULT_WATCH_CACHE_SIZE,
            &DELETE_COLLECTION_WORKERS,
            &ENCRYPTION_PROVIDER_CONFIG,
            &ENCRYPTION_PROVIDER_CONFIG_RELOAD,
        ],
    )
}

/// A file of a certificate and one of its key.
#[derive(Clone, Debug)]
pub struct CertKey {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Everything the server was told, complete.
pub struct Config {
    pub logging: Logging,
    pub features: Features,
    pub listen: SocketAddr,
    pub advertise: IpAddr,
    pub serving: Options,
    pub etcd: Etcd,
    pub client_ca: Option<PathBuf>,
    pub request_header: Option<RequestHeader>,
    pub authentication: Authentication,
    pub tokens: Tokens,
    pub authorization: Authorization,
    pub admission: AdmissionConfig,
    pub service_ranges: Vec<IpNet>,
    pub node_ports: (u16, u16),
    pub event_ttl: Duration,
    pub kubelet: Kubelet,
    /// Services are reached at their endpoints.
    pub endpoint_routing: bool,
    pub in_flight: flowcontrol::Config,
    pub served: Served,
    pub peers: PeerConfig,
    pub allow_privileged: bool,
    pub reconcile_endpoints: bool,
    pub shutdown_delay: Duration,
    pub request_timeout: Duration,
    pub min_watch: Duration,
    /// From 0 to [`MAX_GOAWAY_CHANCE`].
    pub goaway_chance: f32,
    pub browsers: Browsers,
    pub pages: Pages,
    pub debugging: Debugging,
    pub audit: AuditConfig,
}

/// How kubelets are reached.
#[derive(Clone, Debug)]
pub struct Kubelet {
    pub ca: Option<PathBuf>,
    pub client: Option<CertKey>,
    pub address_types: Vec<String>,
    pub timeout: Duration,
}

fn pair(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    what: &str,
) -> anyhow::Result<Option<CertKey>> {
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some(CertKey { cert, key })),
        _ => bail!("{what}: the certificate and the key must be given together"),
    }
}

impl Config {
    /// Completes what the flags say.
    pub fn from_args(args: &Args) -> anyhow::Result<Self> {
        ignored::check(args)?;
        let bind = args.get(&args::BIND_ADDRESS);
        let listen = SocketAddr::new(bind, args.get(&args::SECURE_PORT));
        let ranges: Vec<IpNet> = args
            .get(&SERVICE_CLUSTER_IP_RANGE)
            .iter()
            .map(|r| {
                r.parse()
                    .with_context(|| format!("--service-cluster-ip-range: {r:?} is not a CIDR"))
            })
            .collect::<anyhow::Result<_>>()?;
        if ranges.is_empty() || ranges.len() > 2 {
            bail!("--service-cluster-ip-range must have one or two ranges");
        }
        let authorization = Authorization::from_args(args)?;
        let features = Features::from_args(args)?;
        Ok(Self {
            logging: Logging::from_flags(args),
            served: served(args, &features)?,
            peers: PeerConfig::from_args(args, &features)?,
            listen,
            advertise: advertise(args.get(&ADVERTISE_ADDRESS), bind)?,
            serving: Options::from_flags(args, "apiserver")?
                .context("--secure-port must not be 0")?,
            etcd: Etcd::from_args(args, &features)?,
            client_ca: args.get(&args::CLIENT_CA_FILE),
            request_header: RequestHeader::from_args(args, &features)?,
            authentication: Authentication::from_args(args, &features, authorization.allows_all())?,
            tokens: Tokens::from_args(args)?,
            authorization,
            admission: AdmissionConfig::from_args(args)?,
            service_ranges: ranges,
            node_ports: port_range(&args.get(&SERVICE_NODE_PORT_RANGE))?,
            event_ttl: args.get(&EVENT_TTL),
            kubelet: Kubelet {
                ca: args.get(&KUBELET_CA),
                client: pair(
                    args.get(&KUBELET_CLIENT_CERT),
                    args.get(&KUBELET_CLIENT_KEY),
                    "--kubelet-client-certificate and --kubelet-client-key",
                )?,
                address_types: args.get(&KUBELET_PREFERRED_ADDRESS_TYPES),
                timeout: args.get(&KUBELET_TIMEOUT),
            },
            endpoint_routing: args.get(&ENABLE_AGGREGATOR_ROUTING),
            in_flight: in_flight::config(args)?,
            allow_privileged: args.get(&ALLOW_PRIVILEGED),
            reconcile_endpoints: reconciles(&args.get(&ENDPOINT_RECONCILER_TYPE))?,
            shutdown_delay: args.get(&SHUTDOWN_DELAY),
            request_timeout: request_timeout(args.get(&REQUEST_TIMEOUT))?,
            min_watch: min_watch(args.get(&MIN_REQUEST_TIMEOUT))?,
            goaway_chance: goaway_chance(args.get(&GOAWAY_CHANCE))?,
            pages: Pages::new("apiserver", args, &Endpoints::PATHS).of(&features),
            browsers: Browsers::new(
                &args.get(&CORS_ALLOWED_ORIGINS),
                &args.get(&STRICT_TRANSPORT_SECURITY),
            )?,
            debugging: Debugging::from_args(args)?,
            audit: AuditConfig::from_args(args)?,
            features,
        })
    }
}

fn served(args: &Args, features: &Features) -> anyhow::Result<Served> {
    for flag in [
        EMULATION_FORWARD_COMPATIBLE,
        RUNTIME_CONFIG_EMULATION_FORWARD_COMPATIBLE,
    ] {
        if args.get(&flag) && !features.version().emulates() {
            bail!(
                "--{} cannot be set to true if the emulation version is the same as the binary version",
                flag.name()
            );
        }
    }
    let choice = Choice {
        runtime_config: args.get(&RUNTIME_CONFIG),
        forward: args.get(&EMULATION_FORWARD_COMPATIBLE),
        forward_by_name: args.get(&RUNTIME_CONFIG_EMULATION_FORWARD_COMPATIBLE),
    };
    Ok(Served::new(&choice, features)?)
}

fn request_timeout(given: Duration) -> anyhow::Result<Duration> {
    if given.is_zero() {
        bail!("--request-timeout: it must be longer than nothing");
    }
    Ok(given)
}

fn min_watch(seconds: i64) -> anyhow::Result<Duration> {
    match u64::try_from(seconds) {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => bail!("--min-request-timeout: {seconds} is negative"),
    }
}

/// Upstream's bound.
const MAX_GOAWAY_CHANCE: f32 = 0.02;

fn goaway_chance(given: f32) -> anyhow::Result<f32> {
    if (0.0..=MAX_GOAWAY_CHANCE).contains(&given) {
        return Ok(given);
    }
    bail!("--goaway-chance: {given} is not between 0 and {MAX_GOAWAY_CHANCE}")
}

fn reconciles(kind: &str) -> anyhow::Result<bool> {
    match kind {
        "lease" | "master-count" => Ok(true),
        "none" => Ok(false),
        other => {
            bail!("--endpoint-reconciler-type: {other:?} is none of lease, master-count, none")
        }
    }
}

/// `first-last` or `first+count`, as upstream's `PortRange` reads it.
fn port_range(text: &str) -> anyhow::Result<(u16, u16)> {
    let bad = || format!("--service-node-port-range: {text:?} is not a range of ports");
    let (first, last) = match (text.split_once('-'), text.split_once('+')) {
        (Some((a, b)), _) => (a.trim().parse::<u16>().ok(), b.trim().parse::<u16>().ok()),
        (_, Some((a, n))) => {
            let first = a.trim().parse::<u16>().ok();
            (
                first,
                first
                    .zip(n.trim().parse::<u16>().ok())
                    .and_then(|(a, n)| a.checked_add(n)),
            )
        }
        _ => (None, None),
    };
    match (first, last) {
        (Some(a), Some(b)) if a <= b && a > 0 => Ok((a, b)),
        _ => bail!(bad()),
    }
}

/// The address that others use: as given, or the one bound to, or the one that the default route takes.
fn advertise(given: Option<IpAddr>, bind: IpAddr) -> anyhow::Result<IpAddr> {
    if let Some(address) = given {
        return Ok(address);
    }
    if !bind.is_unspecified() && !bind.is_loopback() {
        return Ok(bind);
    }
    // Connecting a UDP socket sends nothing; it asks the kernel which source address it would take.
    let socket =
        std::net::UdpSocket::bind("0.0.0.0:0").context("cannot find an address to advertise")?;
    match socket
        .connect("192.0.2.1:9")
        .and_then(|()| socket.local_addr())
    {
        Ok(local) => Ok(local.ip()),
        Err(_) if bind.is_loopback() => Ok(bind),
        Err(e) => Err(e).context("cannot find an address to advertise, give --advertise-address"),
    }
}
