//! How servers of one cluster reach each other (KEP-4020).

use std::path::PathBuf;

use anyhow::bail;
use component::args::Args;
use component::features::Features;

use super::{
    CertKey, Config, PEER_ADVERTISE_IP, PEER_ADVERTISE_PORT, PEER_CA_FILE, PROXY_CLIENT_CERT_FILE,
    PROXY_CLIENT_KEY_FILE,
};

/// What the flags say of peers.
#[derive(Clone, Default)]
pub struct PeerConfig {
    /// `UnknownVersionInteroperabilityProxy`: this server says where it is.
    pub enabled: bool,
    /// The authorities of peers' certificates; without them peers are not asked.
    pub ca: Option<PathBuf>,
    /// With which this server shows peers that it may speak for its users.
    pub client: Option<CertKey>,
    /// Where peers reach this server, if not where everybody does.
    advertise: Option<(String, u16)>,
}

impl PeerConfig {
    pub(super) fn from_args(args: &Args, features: &Features) -> anyhow::Result<Self> {
        let (ip, port) = (args.get(&PEER_ADVERTISE_IP), args.get(&PEER_ADVERTISE_PORT));
        let ca = args.get(&PEER_CA_FILE);
        let enabled = features.enabled("UnknownVersionInteroperabilityProxy");
        for (flag, given) in [
            (PEER_CA_FILE.name(), ca.is_some()),
            (PEER_ADVERTISE_IP.name(), !ip.is_empty()),
            (PEER_ADVERTISE_PORT.name(), !port.is_empty()),
        ] {
            if given && !enabled {
                bail!(
                    "--{flag} requires UnknownVersionInteroperabilityProxy feature to be turned on"
                );
            }
        }
        let pair = (
            args.get(&PROXY_CLIENT_CERT_FILE),
            args.get(&PROXY_CLIENT_KEY_FILE),
        );
        let client = match (&ca, pair) {
            (None, _) => None,
            (Some(_), (Some(cert), Some(key))) => Some(CertKey { cert, key }),
            (Some(_), (None, _)) => {
                bail!("error building peer proxy handler, proxy-cert-file not specified")
            }
            (Some(_), (_, None)) => {
                bail!("error building peer proxy handler, proxy-key-file not specified")
            }
        };
        let advertise = match (ip.is_empty(), port.is_empty()) {
            (false, false) => {
                let number = port.parse();
                let Ok(number) = number else {
                    bail!("--{}: {port:?} is no port", PEER_ADVERTISE_PORT.name());
                };
                Some((ip, number))
            }
            // One without the other says nothing (`getPeerAddress`).
            _ => None,
        };
        Ok(Self {
            enabled,
            ca,
            client,
            advertise,
        })
    }

    /// Where peers reach this server.
    #[must_use]
    pub fn address(&self, config: &Config) -> (String, u16) {
        let everybody = || (config.advertise.to_string(), config.listen.port());
        self.advertise.clone().unwrap_or_else(everybody)
    }
}
