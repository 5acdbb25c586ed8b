//! What API servers say of their own caches: in test clusters each is compared with etcd all the time.

/// Upstream's name, and ours.
const METRIC: &str = "apiserver_storage_consistency_checks_total{";

/// Comparisons of a cache with etcd, by how they ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    pub equal: u64,
    /// The caches that differed, as the metric names them. There must be none.
    pub different: Vec<String>,
    /// Not made, because etcd or the cache was away.
    pub failed: u64,
}

impl Checks {
    /// Adds what one server counted, in Prometheus' text form.
    pub(super) fn add(&mut self, metrics: &str) {
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(METRIC));
        for line in lines {
            let Some((labels, count)) = line.rsplit_once("} ") else {
                continue;
            };
            let count: f64 = count.trim().parse().unwrap_or(0.0);
            match labels {
                _ if count == 0.0 => {}
                l if l.contains("status=\"success\"") => self.equal += count as u64,
                l if l.contains("status=\"failure\"") => self.different.push(l.to_owned()),
                _ => self.failed += count as u64,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cache_that_differs_is_named() {
        let metrics = "\
            # TYPE apiserver_storage_consistency_checks_total counter\n\
            apiserver_storage_consistency_checks_total{group=\"\",resource=\"pods\",status=\"success\"} 7\n\
            apiserver_storage_consistency_checks_total{group=\"\",resource=\"pods\",status=\"failure\"} 0\n\
            apiserver_storage_consistency_checks_total{group=\"apps\",resource=\"deployments\",status=\"failure\"} 1\n\
            apiserver_storage_consistency_checks_total{group=\"\",resource=\"nodes\",status=\"error\"} 2\n\
            apiserver_request_total{code=\"200\"} 5\n";
        let mut checks = Checks::default();
        checks.add(metrics);
        assert_eq!((checks.equal, checks.failed), (7, 2));
        assert_eq!(checks.different.len(), 1);
        assert!(checks.different[0].contains("deployments"));
    }
}
