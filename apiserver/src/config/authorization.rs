//! What the flags say of authorization.
//!
//! Either a file names all authorizers, or the older flags do; they do not go together. Upstream:
//! `pkg/kubeapiserver/options/authorization.go`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use component::args::{Args, Flag};

use crate::authz::conditions::Conditions;
use crate::authz::config::{Entry, Kind, Version, WebhookSettings};
use crate::webhook;

flags! {
    AUTHORIZATION_MODE: Vec<String> = "authorization-mode", "", "Authorizers in order: Node, RBAC, Webhook, ABAC, AlwaysAllow, AlwaysDeny. AlwaysAllow if neither this nor --authorization-config is given.";
    AUTHORIZATION_CONFIG: Option<PathBuf> = "authorization-config", "", "A file that names the authorizers in order; it is read again when it changes.";
    POLICY_FILE: Option<PathBuf> = "authorization-policy-file", "", "The policies of ABAC, one JSON object a line.";
    WEBHOOK_CONFIG_FILE: Option<PathBuf> = "authorization-webhook-config-file", "", "A kubeconfig that says where the authorization webhook is.";
    WEBHOOK_VERSION: String = "authorization-webhook-version", "v1beta1", "The version of SubjectAccessReviews that the webhook speaks: v1 or v1beta1.";
    WEBHOOK_AUTHORIZED_TTL: Duration = "authorization-webhook-cache-authorized-ttl", "5m0s", "How long the webhook's yes is remembered.";
    WEBHOOK_UNAUTHORIZED_TTL: Duration = "authorization-webhook-cache-unauthorized-ttl", "30s", "How long the webhook's no is remembered.";
}

/// The authorizers that are asked for.
#[derive(Clone, Debug)]
pub struct Authorization {
    pub source: Source,
    /// Of ABAC.
    pub policy_file: Option<PathBuf>,
}

/// Where the list of authorizers comes from.
#[derive(Clone, Debug)]
pub enum Source {
    File(PathBuf),
    Flags(Vec<Entry>),
}

impl Authorization {
    pub(super) fn from_args(args: &Args) -> anyhow::Result<Self> {
        let policy_file = args.get(&POLICY_FILE);
        let Some(file) = args.get(&AUTHORIZATION_CONFIG) else {
            let source = Source::Flags(entries(args, policy_file.is_some())?);
            return Ok(Self {
                source,
                policy_file,
            });
        };
        let older = args.given(&AUTHORIZATION_MODE).is_some()
            || args.given(&WEBHOOK_CONFIG_FILE).is_some()
            || args.given(&WEBHOOK_VERSION).is_some()
            || args.given(&WEBHOOK_AUTHORIZED_TTL).is_some()
            || args.given(&WEBHOOK_UNAUTHORIZED_TTL).is_some();
        if older {
            bail!(
                "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* \
                 flags are defined"
            );
        }
        Ok(Self {
            source: Source::File(file),
            policy_file,
        })
    }

    /// Whether flags ask to allow everything to everybody.
    pub(super) fn allows_all(&self) -> bool {
        matches!(&self.source, Source::Flags(entries) if entries.iter().any(|e| e.kind == Kind::AlwaysAllow))
    }
}

fn entries(args: &Args, has_policy: bool) -> anyhow::Result<Vec<Entry>> {
    let mut modes = args.get(&AUTHORIZATION_MODE);
    if modes.is_empty() {
        modes.push("AlwaysAllow".to_owned());
    }
    let webhook = args.get(&WEBHOOK_CONFIG_FILE);
    let mut entries = Vec::<Entry>::new();
    for mode in &modes {
        let Some(kind) = Kind::named(mode) else {
            bail!("authorization-mode {mode:?} is not a valid mode");
        };
        if entries.iter().any(|e| e.kind == kind) {
            bail!("authorization-mode {modes:?} has mode specified more than once");
        }
        entries.push(match kind {
            Kind::Webhook => by_webhook(args, webhook.as_ref())?,
            Kind::Abac if !has_policy => {
                bail!("authorization-mode ABAC's authorization policy file not passed")
            }
            _ => Entry::of(kind),
        });
    }
    let has = |kind| entries.iter().any(|e| e.kind == kind);
    if has_policy && !has(Kind::Abac) {
        bail!("cannot specify --authorization-policy-file without mode ABAC");
    }
    if webhook.is_some() && !has(Kind::Webhook) {
        bail!("cannot specify --authorization-webhook-config-file without mode Webhook");
    }
    Ok(entries)
}

fn by_webhook(args: &Args, kubeconfig: Option<&PathBuf>) -> anyhow::Result<Entry> {
    let Some(kubeconfig) = kubeconfig else {
        bail!("authorization-mode Webhook's authorization config file not passed");
    };
    let version = args.get(&WEBHOOK_VERSION);
    let Some(version) = Version::named(&version) else {
        bail!(
            "unsupported webhook authorizer version {version:?}, supported versions are \"v1\", \"v1beta1\""
        );
    };
    Ok(Entry {
        kind: Kind::Webhook,
        name: "default".to_owned(),
        webhook: Some(WebhookSettings {
            kubeconfig: kubeconfig.clone(),
            timeout: webhook::TIMEOUT,
            authorized_ttl: args.get(&WEBHOOK_AUTHORIZED_TTL),
            unauthorized_ttl: args.get(&WEBHOOK_UNAUTHORIZED_TTL),
            version,
            fail_closed: false,
            conditions: Conditions::default(),
        }),
    })
}
