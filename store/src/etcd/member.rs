//! One member of the cluster: its connection and how it is made.

use http::Uri;

use super::pb::{
    kv_client::KvClient, lease_client::LeaseClient, maintenance_client::MaintenanceClient,
    watch_client::WatchClient,
};
use super::tls::Files;
use super::transport::Channel;
use super::{Error, MAX_RESPONSE};
use crate::trace::Called;

/// A member and one connection to it, made when first used and again when it breaks.
#[derive(Clone)]
pub(super) struct Member {
    channel: Channel,
}

impl Member {
    pub(super) fn new(server: &str, tls: Option<&Files>) -> Result<Self, Error> {
        let bad = |why: &str| Error::Config(format!("server {server:?}: {why}"));
        let uri: Uri = server.parse().map_err(|_| bad("not a URL"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("the URL must begin with http:// or https://")),
        };
        let host = uri.host().ok_or_else(|| bad("the URL has no host"))?;
        if secure && tls.is_none() {
            return Err(bad("https needs a CA file"));
        }
        let tls = tls.filter(|_| secure).cloned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let authority = format!("{host}:{port}")
            .parse()
            .map_err(|_| bad("not a URL"))?;
        Ok(Self {
            channel: Channel::new(host.trim_matches(['[', ']']), port, authority, tls),
        })
    }

    /// The same member over a connection of its own.
    pub(super) fn reconnected(&self) -> Self {
        Self {
            channel: self.channel.another(),
        }
    }

    /// A call of this member.
    pub(super) fn called(&self, method: &'static str) -> Called<'_> {
        Called {
            method,
            server: self.channel.server(),
        }
    }

    pub(super) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel()).max_decoding_message_size(MAX_RESPONSE)
    }

    pub(super) fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel()).max_decoding_message_size(MAX_RESPONSE)
    }

    pub(super) fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel())
    }

    pub(super) fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel())
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }
}
