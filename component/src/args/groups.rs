//! The flag sets that upstream's daemons share, as data.
//!
//! Sources: `k8s.io/apiserver/pkg/server/options/{serving,authentication,authorization}.go`,
//! `k8s.io/component-base/{logs,metrics,config/options,compatibility}`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Array, Flag, Group};
use crate::features;

macro_rules! flags {
    ($($(#[$doc:meta])* $constant:ident: $type:ty = $name:literal, $default:literal, $help:literal $(, $fate:ident($why:expr))?;)*) => {
        $($(#[$doc])* #[doc = concat!("`--", $name, "`: ", $help)]
        pub const $constant: Flag<$type> = Flag::new($name, $default, $help)$(.$fate($why))?;)*
    };
}

// Secure serving.
flags! {
    BIND_ADDRESS: IpAddr = "bind-address", "0.0.0.0", "The address on which to listen; an unspecified one means all interfaces and families.";
    SECURE_PORT: u16 = "secure-port", "443", "The port on which to serve HTTPS; 0 serves none.";
    DISABLE_HTTP2: bool = "disable-http2-serving", "false", "Serve HTTP/1.1 only.";
    CERT_DIR: PathBuf = "cert-dir", "", "The directory of the serving certificate; unused if --tls-cert-file and --tls-private-key-file are given.";
    TLS_CERT_FILE: Option<PathBuf> = "tls-cert-file", "", "The serving certificate in PEM, followed by its intermediates.";
    TLS_PRIVATE_KEY_FILE: Option<PathBuf> = "tls-private-key-file", "", "The key of --tls-cert-file in PEM.";
    TLS_CIPHER_SUITES: Vec<String> = "tls-cipher-suites", "", "Comma-separated cipher suites for TLS 1.2, in Go's names; empty means all supported ones.";
    TLS_CURVE_PREFERENCES: Vec<String> = "tls-curve-preferences", "", "Comma-separated key exchange groups by Go's numbers; empty means the preferred ones.";
    TLS_MIN_VERSION: String = "tls-min-version", "", "The lowest TLS version served: VersionTLS12 or VersionTLS13.";
    TLS_SNI_CERT_KEY: Array = "tls-sni-cert-key", "", "A certificate and a key file, separated by a comma, with an optional list of domain patterns after a colon; may be repeated.";
    HTTP2_MAX_STREAMS: u32 = "http2-max-streams-per-connection", "0", "The most streams that a client may have in one connection; 0 means the default.";
    PERMIT_PORT_SHARING: bool = "permit-port-sharing", "false", "Bind with SO_REUSEPORT.";
    PERMIT_ADDRESS_SHARING: bool = "permit-address-sharing", "false", "Bind with SO_REUSEADDR.";
}

/// The flags of a daemon's HTTPS listener. Daemons set their own default of [`SECURE_PORT`].
#[must_use]
pub fn secure_serving() -> Group {
    Group::new(
        "Secure serving",
        &[
            &BIND_ADDRESS,
            &SECURE_PORT,
            &DISABLE_HTTP2,
            &CERT_DIR,
            &TLS_CERT_FILE,
            &TLS_PRIVATE_KEY_FILE,
            &TLS_CIPHER_SUITES,
            &TLS_CURVE_PREFERENCES,
            &TLS_MIN_VERSION,
            &TLS_SNI_CERT_KEY,
            &HTTP2_MAX_STREAMS,
            &PERMIT_PORT_SHARING,
            &PERMIT_ADDRESS_SHARING,
        ],
    )
}

// Delegated authentication.
flags! {
    AUTHENTICATION_KUBECONFIG: Option<PathBuf> = "authentication-kubeconfig", "", "The kubeconfig of the API server that reviews tokens; without it requests with tokens are anonymous.";
    AUTHENTICATION_SKIP_LOOKUP: bool = "authentication-skip-lookup", "false", "Do not look up missing authentication settings in the cluster.";
    AUTHENTICATION_TOLERATE_LOOKUP_FAILURE: bool = "authentication-tolerate-lookup-failure", "false", "Go on when that lookup fails; all requests may be anonymous then.";
    AUTHENTICATION_CACHE_TTL: Duration = "authentication-token-webhook-cache-ttl", "10s", "How long answers about tokens are cached.";
    CLIENT_CA_FILE: Option<PathBuf> = "client-ca-file", "", "The authorities whose client certificates are accepted: common name is user, organizations are groups.";
    REQUESTHEADER_CLIENT_CA_FILE: Option<PathBuf> = "requestheader-client-ca-file", "", "The authorities of front proxies, whose identity headers are trusted.";
    REQUESTHEADER_ALLOWED_NAMES: Vec<String> = "requestheader-allowed-names", "", "Common names of front proxies; empty allows any that the authority signed.";
    REQUESTHEADER_USERNAME_HEADERS: Vec<String> = "requestheader-username-headers", "x-remote-user", "Headers that name the user.";
    REQUESTHEADER_UID_HEADERS: Vec<String> = "requestheader-uid-headers", "", "Headers that hold the user's UID.";
    REQUESTHEADER_GROUP_HEADERS: Vec<String> = "requestheader-group-headers", "x-remote-group", "Headers that name the user's groups.";
    REQUESTHEADER_EXTRA_HEADERS_PREFIX: Vec<String> = "requestheader-extra-headers-prefix", "x-remote-extra-", "Prefixes of headers with further attributes of the user.";
}

/// Who may ask: client certificates, front proxies, and tokens that the API server reviews.
#[must_use]
pub fn delegated_authentication() -> Group {
    Group::new(
        "Authentication",
        &[
            &AUTHENTICATION_KUBECONFIG,
            &AUTHENTICATION_SKIP_LOOKUP,
            &AUTHENTICATION_TOLERATE_LOOKUP_FAILURE,
            &AUTHENTICATION_CACHE_TTL,
            &CLIENT_CA_FILE,
            &REQUESTHEADER_CLIENT_CA_FILE,
            &REQUESTHEADER_ALLOWED_NAMES,
            &REQUESTHEADER_USERNAME_HEADERS,
            &REQUESTHEADER_UID_HEADERS,
            &REQUESTHEADER_GROUP_HEADERS,
            &REQUESTHEADER_EXTRA_HEADERS_PREFIX,
        ],
    )
}

// Delegated authorization.
flags! {
    AUTHORIZATION_KUBECONFIG: Option<PathBuf> = "authorization-kubeconfig", "", "The kubeconfig of the API server that reviews access; without it only the paths that are always allowed are served.";
    AUTHORIZATION_ALLOWED_TTL: Duration = "authorization-webhook-cache-authorized-ttl", "10s", "How long allowing answers are cached.";
    AUTHORIZATION_DENIED_TTL: Duration = "authorization-webhook-cache-unauthorized-ttl", "10s", "How long denying answers are cached.";
    AUTHORIZATION_ALWAYS_ALLOW_PATHS: Vec<String> = "authorization-always-allow-paths", "/healthz,/readyz,/livez", "Paths that everybody may read.";
}

/// What they may ask: the API server decides.
#[must_use]
pub fn delegated_authorization() -> Group {
    Group::new(
        "Authorization",
        &[
            &AUTHORIZATION_KUBECONFIG,
            &AUTHORIZATION_ALLOWED_TTL,
            &AUTHORIZATION_DENIED_TTL,
            &AUTHORIZATION_ALWAYS_ALLOW_PATHS,
        ],
    )
}

// The connection to the API server.
flags! {
    KUBECONFIG: Option<PathBuf> = "kubeconfig", "", "The kubeconfig with the API server's address and the daemon's credentials.";
    MASTER: String = "master", "", "The address of the API server, instead of the kubeconfig's.";
    KUBE_API_CONTENT_TYPE: String = "kube-api-content-type", "application/vnd.kubernetes.protobuf", "The content type of requests to the API server.";
    KUBE_API_QPS: f32 = "kube-api-qps", "50", "Requests per second to the API server; negative means no limit.";
    KUBE_API_BURST: i32 = "kube-api-burst", "100", "Requests that may be sent at once beyond --kube-api-qps.";
}

/// How the API server is reached.
#[must_use]
pub fn client_connection() -> Group {
    Group::new(
        "Client connection",
        &[
            &KUBECONFIG,
            &MASTER,
            &KUBE_API_CONTENT_TYPE,
            &KUBE_API_QPS,
            &KUBE_API_BURST,
        ],
    )
}

// Leader election.
flags! {
    LEADER_ELECT: bool = "leader-elect", "true", "Work only while holding the lease, so that several replicas can stand by.";
    LEADER_ELECT_LEASE_DURATION: Duration = "leader-elect-lease-duration", "15s", "How long others wait after the last renewal before they take the lease.";
    LEADER_ELECT_RENEW_DEADLINE: Duration = "leader-elect-renew-deadline", "10s", "How long the holder tries to renew before it gives up; less than the lease duration.";
    LEADER_ELECT_RETRY_PERIOD: Duration = "leader-elect-retry-period", "2s", "How long to wait between attempts.";
    LEADER_ELECT_RESOURCE_LOCK: String = "leader-elect-resource-lock", "leases", "The kind of the lock; only leases.";
    LEADER_ELECT_RESOURCE_NAME: String = "leader-elect-resource-name", "", "The name of the lease.";
    LEADER_ELECT_RESOURCE_NAMESPACE: String = "leader-elect-resource-namespace", "kube-system", "The namespace of the lease.";
}

/// Which replica works. Daemons set their own default of [`LEADER_ELECT_RESOURCE_NAME`].
#[must_use]
pub fn leader_election() -> Group {
    Group::new(
        "Leader election",
        &[
            &LEADER_ELECT,
            &LEADER_ELECT_LEASE_DURATION,
            &LEADER_ELECT_RENEW_DEADLINE,
            &LEADER_ELECT_RETRY_PERIOD,
            &LEADER_ELECT_RESOURCE_LOCK,
            &LEADER_ELECT_RESOURCE_NAME,
            &LEADER_ELECT_RESOURCE_NAMESPACE,
        ],
    )
}

const GO_ONLY: &str = "it sets up a part of Go's runtime or of klog that this daemon does not have";

// Logs.
flags! {
    LOGGING_FORMAT: String = "logging-format", "text", "The form of the log: text or json.";
    LOG_FLUSH_FREQUENCY: Duration = "log-flush-frequency", "5s", "How often buffered lines are written.", ignored("lines are written as they come");
    VMODULE: String = "vmodule", "", "Verbosity by source file.", ignored("its patterns name upstream's Go files");
    LOG_TEXT_SPLIT_STREAM: bool = "log-text-split-stream", "false", "Errors to stderr, the rest to stdout.", ignored(GO_ONLY);
    LOG_TEXT_INFO_BUFFER_SIZE: String = "log-text-info-buffer-size", "0", "How much of the log is buffered.", ignored(GO_ONLY);
    LOG_JSON_SPLIT_STREAM: bool = "log-json-split-stream", "false", "Errors to stderr, the rest to stdout.", ignored(GO_ONLY);
    LOG_JSON_INFO_BUFFER_SIZE: String = "log-json-info-buffer-size", "0", "How much of the log is buffered.", ignored(GO_ONLY);
}

/// `--v`: how much the log says, 0 to 10.
pub const VERBOSITY: Flag<u32> = Flag::new(
    "v",
    "0",
    "How much the log says: from 4 on debugging, from 6 on tracing.",
)
.short('v');

/// What the daemon logs.
#[must_use]
pub fn logs() -> Group {
    Group::new(
        "Logs",
        &[
            &VERBOSITY,
            &LOGGING_FORMAT,
            &LOG_FLUSH_FREQUENCY,
            &VMODULE,
            &LOG_TEXT_SPLIT_STREAM,
            &LOG_TEXT_INFO_BUFFER_SIZE,
            &LOG_JSON_SPLIT_STREAM,
            &LOG_JSON_INFO_BUFFER_SIZE,
        ],
    )
}

// Metrics.
flags! {
    SHOW_HIDDEN_METRICS: String = "show-hidden-metrics-for-version", "", "The previous version whose hidden metrics to show.", ignored("no metric is hidden");
    DISABLED_METRICS: Vec<String> = "disabled-metrics", "", "Metrics to leave out, by name.";
    ALLOW_METRIC_LABELS: BTreeMap<String, String> = "allow-metric-labels", "", "Allowed values of labels.", ignored("labels here have few values");
    ALLOW_METRIC_LABELS_MANIFEST: String = "allow-metric-labels-manifest", "", "A file of allowed values of labels.", ignored("labels here have few values");
}

/// What the daemon counts.
#[must_use]
pub fn metrics() -> Group {
    Group::new(
        "Metrics",
        &[
            &SHOW_HIDDEN_METRICS,
            &DISABLED_METRICS,
            &ALLOW_METRIC_LABELS,
            &ALLOW_METRIC_LABELS_MANIFEST,
        ],
    )
}

// What every daemon has.
flags! {
    FEATURE_GATES: features::Assignments = "feature-gates", "", "Comma-separated feature gates, such as A=true,B=false; may be repeated.";
    EMULATED_VERSION: Vec<String> = "emulated-version", "", "The version whose resources and feature gates there are, such as 1.36 or kube=1.36.";
    MIN_COMPATIBILITY_VERSION: Vec<String> = "min-compatibility-version", "", "The lowest version that a server of this control plane has; at most the emulated one.";
    CONFIG: Option<PathBuf> = "config", "", "The configuration file.";
    WRITE_CONFIG_TO: Option<PathBuf> = "write-config-to", "", "Write the effective configuration to this file and exit.";
    PROFILING: bool = "profiling", "true", "What can be seen of the running process, at /debug/pprof.";
    CONTENTION_PROFILING: bool = "contention-profiling", "false", "Lock profiles at /debug/pprof.", ignored("locks are profiled from outside");
}

/// `--version`, `--version=raw`.
pub const VERSION: Flag<super::Version> = Flag::new(
    "version",
    "false",
    "Print the version and exit; raw prints all of it.",
);

/// Feature gates and `--version`; every daemon has them.
#[must_use]
pub fn global() -> Group {
    Group::new("Global", &[&FEATURE_GATES, &VERSION])
}

/// Which version a daemon of the control plane behaves like.
#[must_use]
pub fn versions() -> Group {
    Group::new("Versions", &[&EMULATED_VERSION, &MIN_COMPATIBILITY_VERSION])
}

/// What can be seen of the running process.
#[must_use]
pub fn debugging() -> Group {
    Group::new("Debugging", &[&PROFILING, &CONTENTION_PROFILING])
}
