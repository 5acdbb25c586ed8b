//! The `Authorization` header.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};

use super::config::{Bearer, Config, ConfigError};
use super::exec::{self, Plugin};
use crate::files::FromFiles;
use crate::metrics::Metrics;

/// Why a request cannot say who asks.
#[derive(thiserror::Error, Debug)]
pub enum Error {
    #[error(transparent)]
    Exec(#[from] exec::Error),
    #[error("the token holds characters that a header cannot")]
    Token,
}

/// What a client adds to each request to say who it is.
pub(super) enum Credentials {
    None,
    Token(String),
    File(FromFiles<String>),
    Exec(Arc<Plugin>),
}

impl Credentials {
    pub(super) fn new(config: &Config, metrics: &Metrics) -> Result<Self, ConfigError> {
        Ok(match &config.bearer {
            None => Self::None,
            Some(Bearer::Token(token)) => Self::Token(token.clone()),
            Some(Bearer::TokenFile(path)) => {
                let read = path.clone();
                let file = FromFiles::new(vec![path.clone()], move || {
                    std::fs::read_to_string(&read).map(|text| text.trim().to_owned())
                });
                Self::File(file.map_err(|cause| ConfigError::Read {
                    path: path.clone(),
                    cause,
                })?)
            }
            Some(Bearer::Exec(exec)) => {
                Self::Exec(Arc::new(Plugin::new((**exec).clone(), metrics.plugins())))
            }
        })
    }

    /// The plugin, if there is one: it may also give certificates.
    pub(super) fn exec(&self) -> Option<Arc<Plugin>> {
        match self {
            Self::Exec(plugin) => Some(Arc::clone(plugin)),
            _ => None,
        }
    }

    pub(super) async fn apply(&self, headers: &mut HeaderMap) -> Result<(), Error> {
        let token = match self {
            Self::None => return Ok(()),
            Self::Token(token) => token.clone(),
            Self::File(file) => (*file.current()).clone(),
            Self::Exec(plugin) => match &plugin.credential().await?.token {
                Some(token) => token.clone(),
                None => return Ok(()),
            },
        };
        let mut value =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| Error::Token)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        Ok(())
    }

    /// The server answered 401.
    pub(super) fn refused(&self) {
        if let Self::Exec(plugin) = self {
            plugin.refused();
        }
    }
}
