//! Where etcd is, and what is stored in which cluster of it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use component::args::Args;
use component::features::Features;
use store::Reads;

use super::{
    CertKey, ENCRYPTION_PROVIDER_CONFIG, ENCRYPTION_PROVIDER_CONFIG_RELOAD, ETCD_CAFILE,
    ETCD_CERTFILE, ETCD_COMPACTION_INTERVAL, ETCD_HEALTHCHECK_TIMEOUT, ETCD_KEYFILE, ETCD_PREFIX,
    ETCD_READYCHECK_TIMEOUT, ETCD_SERVERS, ETCD_SERVERS_OVERRIDES, LEASE_REUSE_DURATION,
    STORAGE_BACKEND, pair,
};

/// Upstream's variable, by which test clusters have their caches compared with etcd all the time.
const CHECK: &str = "KUBE_WATCHCACHE_CONSISTENCY_CHECKER";
/// How often each cache is compared with etcd; upstream's.
const CHECK_INTERVAL: Duration = Duration::from_secs(300);
/// The same in test clusters, which do not live that long.
const CHECK_INTERVAL_IN_TESTS: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
pub struct Etcd {
    pub servers: Vec<String>,
    pub overrides: Vec<Override>,
    pub prefix: String,
    pub ca: Option<PathBuf>,
    pub client: Option<CertKey>,
    pub compaction_interval: Duration,
    /// Never if zero.
    pub check_interval: Duration,
    pub reads: Reads,
    /// Seconds that a lease takes new objects.
    pub lease_reuse: i64,
    /// How long it may take to answer `/livez` and `/healthz`, and `/readyz`.
    pub live_timeout: Duration,
    pub ready_timeout: Duration,
    pub encryption: Option<EncryptionConfig>,
}

/// A resource that is stored elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub group: String,
    /// `*`: all of the group.
    pub resource: String,
    pub servers: Vec<String>,
}

/// Where the configuration of the encryption at rest is.
#[derive(Clone, Debug)]
pub struct EncryptionConfig {
    pub file: PathBuf,
    /// Whether the file is read again when it changes.
    pub reload: bool,
}

impl Etcd {
    pub(super) fn from_args(args: &Args, features: &Features) -> anyhow::Result<Self> {
        let servers = args.get(&ETCD_SERVERS);
        if servers.is_empty() {
            bail!("--etcd-servers must be specified");
        }
        if args.get(&STORAGE_BACKEND) != "etcd3" {
            bail!("--storage-backend: only etcd3 is supported");
        }
        let always = std::env::var(CHECK).is_ok_and(|v| matches!(v.as_str(), "true" | "1"));
        Ok(Self {
            servers,
            overrides: args
                .get(&ETCD_SERVERS_OVERRIDES)
                .iter()
                .map(|text| Override::parse(text))
                .collect::<anyhow::Result<_>>()?,
            prefix: args.get(&ETCD_PREFIX),
            ca: args.get(&ETCD_CAFILE),
            client: pair(
                args.get(&ETCD_CERTFILE),
                args.get(&ETCD_KEYFILE),
                "--etcd-certfile and --etcd-keyfile",
            )?,
            compaction_interval: args.get(&ETCD_COMPACTION_INTERVAL),
            check_interval: match always {
                true => CHECK_INTERVAL_IN_TESTS,
                false if features.enabled("DetectCacheInconsistency") => CHECK_INTERVAL,
                false => Duration::ZERO,
            },
            reads: Reads {
                past: features.enabled("ListFromCacheSnapshot"),
                streams: features.enabled("EtcdRangeStream"),
            },
            lease_reuse: args.get(&LEASE_REUSE_DURATION),
            live_timeout: args.get(&ETCD_HEALTHCHECK_TIMEOUT),
            ready_timeout: args.get(&ETCD_READYCHECK_TIMEOUT),
            encryption: encryption(args)?,
        })
    }
}

impl Override {
    /// `group/resource#server;server`, upstream's `ParseEtcdServersOverrides`.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let parsed = text.split_once('#').and_then(|(what, servers)| {
            let (group, resource) = what.split_once('/')?;
            let servers: Vec<String> = servers.split(';').map(str::to_owned).collect();
            let well_formed = !resource.contains('/')
                && servers.iter().all(|s| !s.is_empty() && !s.contains('#'));
            well_formed.then(|| Self {
                group: group.to_owned(),
                resource: resource.to_owned(),
                servers,
            })
        });
        match parsed {
            Some(given) => Ok(given),
            None => bail!(
                "--etcd-servers-overrides invalid, must be of format: group/resource#servers, where \
                 servers are URLs, semicolon separated"
            ),
        }
    }
}

fn encryption(args: &Args) -> anyhow::Result<Option<EncryptionConfig>> {
    let reload = args.get(&ENCRYPTION_PROVIDER_CONFIG_RELOAD);
    let Some(file) = args.get(&ENCRYPTION_PROVIDER_CONFIG) else {
        if reload {
            bail!(
                "--{} must be set with --{}",
                ENCRYPTION_PROVIDER_CONFIG_RELOAD.name(),
                ENCRYPTION_PROVIDER_CONFIG.name()
            );
        }
        return Ok(None);
    };
    Ok(Some(EncryptionConfig { file, reload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_are_read_as_upstream_reads_them() {
        let parsed = |text| {
            Override::parse(text)
                .ok()
                .map(|o| (o.group, o.resource, o.servers))
        };
        let found = |group: &str, resource: &str, servers: &[&str]| {
            let servers = servers.iter().map(|s| (*s).to_owned()).collect();
            Some((group.to_owned(), resource.to_owned(), servers))
        };
        assert_eq!(
            parsed("/events#https://a:2379;https://b:2379"),
            found("", "events", &["https://a:2379", "https://b:2379"])
        );
        assert_eq!(
            parsed("apps/*#http://a:1"),
            found("apps", "*", &["http://a:1"])
        );
        for bad in [
            "events#http://a:1",
            "/events",
            "/events#",
            "/events#http://a:1;",
            "a/b/c#http://a:1",
            "/events#http://a:1#http://b:1",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn how_etcd_is_read_goes_by_gates() {
        let told = |gates: &[(&str, bool)]| {
            let flags = ["--etcd-servers=http://a:1"];
            let args = Args::parse("kube-apiserver", "", &super::super::groups(), flags).unwrap();
            let features = Features::defaults().with(gates.iter().copied()).unwrap();
            let etcd = Etcd::from_args(&args, &features).unwrap();
            let compared = !etcd.check_interval.is_zero();
            (compared, etcd.reads.past, etcd.reads.streams)
        };
        assert_eq!(told(&[]), (true, true, true));
        assert_eq!(
            told(&[("DetectCacheInconsistency", false)]),
            (false, true, true)
        );
        assert_eq!(
            told(&[("ListFromCacheSnapshot", false)]),
            (true, false, true)
        );
        assert_eq!(told(&[("EtcdRangeStream", false)]), (true, true, false));
    }
}
