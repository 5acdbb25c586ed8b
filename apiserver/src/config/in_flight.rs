//! How much is worked on at once.

use anyhow::bail;
use component::args::Args;

use super::{
    ENABLE_PRIORITY_AND_FAIRNESS, MAX_MUTATING_REQUESTS, MAX_REQUESTS, REQUEST_TIMEOUT,
    RUNTIME_CONFIG, request_timeout,
};
use crate::flowcontrol::Config;

pub(super) fn config(args: &Args) -> anyhow::Result<Config> {
    let config = Config {
        reads: args.get(&MAX_REQUESTS),
        writes: args.get(&MAX_MUTATING_REQUESTS),
        fair: args.get(&ENABLE_PRIORITY_AND_FAIRNESS),
        request_timeout: request_timeout(args.get(&REQUEST_TIMEOUT))?,
    };
    if config.fair {
        if config.reads == 0 && config.writes == 0 {
            bail!(
                "--{} and --{} must add up to something positive",
                MAX_REQUESTS.name(),
                MAX_MUTATING_REQUESTS.name()
            );
        }
        check_served(args)?;
    }
    Ok(config)
}

/// Fairness is configured by objects, which must be served. Upstream:
/// `controlplane/apiserver/options/validation.go`.
fn check_served(args: &Args) -> anyhow::Result<()> {
    let given = args.get(&RUNTIME_CONFIG);
    // The first that says something decides.
    for key in ["flowcontrol.apiserver.k8s.io/v1", "api/ga", "api/all"] {
        match given.get(key).map(String::as_str) {
            Some("false") => bail!(
                "--{}={key}=false conflicts with --{}=true",
                RUNTIME_CONFIG.name(),
                ENABLE_PRIORITY_AND_FAIRNESS.name()
            ),
            Some("true") => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}
