//! Flags of upstream's that have no effect here: command lines that give them work, and the log says why they do nothing.

use std::time::Duration;

use anyhow::bail;
use component::args::{Args, Flag, Group};

const LEADERSHIP: &str = "coordinated leader election (alpha) is not implemented";
const DRAIN: &str =
    "requests under way are waited for, and watches are ended, for --request-timeout at most";

flags! {
    AGGREGATOR_REJECT_REDIRECT: bool = "aggregator-reject-forwarding-redirect", "true", "Do not pass redirects of aggregated servers on.", ignored("redirects are never passed on");
    LEADERSHIP_LEASE: Duration = "coordinated-leadership-lease-duration", "15s", "How long a coordinated leader leads.", ignored(LEADERSHIP);
    LEADERSHIP_RENEW: Duration = "coordinated-leadership-renew-deadline", "10s", "How long it tries to go on.", ignored(LEADERSHIP);
    LEADERSHIP_RETRY: Duration = "coordinated-leadership-retry-period", "2s", "How often it tries.", ignored(LEADERSHIP);
    EGRESS_SELECTOR: String = "egress-selector-config-file", "", "The file that says through which proxies nodes, etcd and the control plane are reached.";
    GARBAGE_COLLECTOR: bool = "enable-garbage-collector", "true", "Keep deleted owners until the garbage collector has seen them.", ignored("it always does");
    LOGS_HANDLER: bool = "enable-logs-handler", "false", "Serve /var/log at /logs.", ignored("logs are not served");
    KUBELET_PORT: u16 = "kubelet-port", "10250", "The port of kubelets.", ignored("nodes say which port their kubelet has");
    KUBELET_READ_ONLY_PORT: u16 = "kubelet-read-only-port", "10255", "The port of kubelets without authentication.", ignored("it is not asked");
    MAX_CONNECTION_BYTES: i64 = "max-connection-bytes-per-sec", "0", "A bound on what a user's connection carries.", ignored("connections are not slowed down");
    RETRY_AFTER: bool = "shutdown-send-retry-after", "false", "Refuse new requests at the end, instead of connections.", ignored(DRAIN);
    WATCH_GRACE: Duration = "shutdown-watch-termination-grace-period", "0s", "How long watches may go on at the end.", ignored(DRAIN);
    STORAGE_INITIALIZATION: Duration = "storage-initialization-timeout", "1m0s", "How long readiness waits for a collection that cannot be read.", ignored("it waits for a minute");
}

#[must_use]
pub fn group() -> Group {
    Group::new(
        "Without effect",
        &[
            &AGGREGATOR_REJECT_REDIRECT,
            &LEADERSHIP_LEASE,
            &LEADERSHIP_RENEW,
            &LEADERSHIP_RETRY,
            &EGRESS_SELECTOR,
            &GARBAGE_COLLECTOR,
            &LOGS_HANDLER,
            &KUBELET_PORT,
            &KUBELET_READ_ONLY_PORT,
            &MAX_CONNECTION_BYTES,
            &RETRY_AFTER,
            &WATCH_GRACE,
            &STORAGE_INITIALIZATION,
        ],
    )
}

/// What cannot be left out without reaching something by another way than asked for.
///
/// # Errors
/// If it is asked for.
pub fn check(args: &Args) -> anyhow::Result<()> {
    if !args.get(&EGRESS_SELECTOR).is_empty() {
        bail!("--{}: proxies are not supported", EGRESS_SELECTOR.name());
    }
    Ok(())
}
