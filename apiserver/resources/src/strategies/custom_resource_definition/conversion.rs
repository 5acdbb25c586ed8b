//! How objects get from version to version: `validateCustomResourceConversion`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proto::catalogue::names as n;
use proto::path::{Errors, Spot};
use proto::view::View;
use proto::view::apiextensions_v1beta1::{
    CustomResourceConversion, CustomResourceDefinitionSpec, WebhookClientConfig,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::asked::{Asked, finds};
use crate::rules::{self, Printed};
use crate::strategies::certificates::pem;
use crate::webhook;

const STRATEGIES: [&str; 2] = ["None", "Webhook"];

pub(super) fn validate(
    spec: CustomResourceDefinitionSpec<'_>,
    asked: &Asked<'_>,
    e: &mut Errors<'_>,
) {
    let Some(conversion) = spec.conversion() else {
        return;
    };
    let (at, strategy) = (Spot::of(conversion), conversion.strategy());
    if strategy != "None" && spec.preserve_unknown_fields() != Some(false) {
        let detail = "must be None if spec.preserveUnknownFields is true";
        e.invalid(at.field(n::STRATEGY), proto::path::Named(strategy), detail);
    }
    rules::required_one_of(e, conversion, n::STRATEGY, &STRATEGIES);
    if strategy == "Webhook" {
        client(conversion, asked, e);
        let versions = n::CONVERSION_REVIEW_VERSIONS;
        webhook::reviews(e, conversion, versions, "", asked.known_reviews);
        return;
    }
    let detail = "should not be set when strategy is not set to Webhook";
    if conversion.webhook_client_config().is_some() {
        e.forbidden(at.field(n::WEBHOOK_CLIENT_CONFIG), detail);
    }
    if !conversion.conversion_review_versions().is_empty() {
        e.forbidden(at.field(n::CONVERSION_REVIEW_VERSIONS), detail);
    }
}

fn client(conversion: CustomResourceConversion<'_>, asked: &Asked<'_>, e: &mut Errors<'_>) {
    let Some(client) = conversion.webhook_client_config() else {
        let at = Spot::of(conversion).field(n::WEBHOOK_CLIENT_CONFIG);
        return e.required(at, "required when strategy is set to Webhook");
    };
    let at = Spot::of(client);
    match (client.url(), client.service()) {
        (Some(url), None) => webhook::url(e, at.field(n::URL), url),
        (None, Some(service)) => webhook::service(e, service.node()),
        _ => e.required(at, "exactly one of url or service is required"),
    }
    if asked.sound_bundle {
        bundle(client, e);
    }
}

/// What the webhook is believed by: there has to be a certificate in it.
fn bundle(client: WebhookClientConfig<'_>, e: &mut Errors<'_>) {
    let bytes = client.node().opt_bytes(n::CA_BUNDLE).unwrap_or_default();
    if bytes.is_empty() {
        return;
    }
    let text = String::from_utf8_lossy(bytes);
    let mut blocks = pem::blocks(&text);
    let mut unsound = None;
    for block in blocks.by_ref() {
        if block.label != "CERTIFICATE" || block.has_headers {
            continue;
        }
        match X509Certificate::from_der(&block.contents) {
            Ok(([], _)) => return,
            _ => unsound = Some("failed to parse certificate: x509: malformed certificate"),
        }
    }
    let detail = unsound.unwrap_or(if blocks.rest().is_empty() {
        "no valid certificate authority data seen"
    } else {
        "unable to parse bytes as PEM block"
    });
    let shown = Printed(format!("\"{}\"", STANDARD.encode(bytes)));
    let detail = format!("unable to load root certificates: {detail}");
    e.invalid(Spot::of(client).field(n::CA_BUNDLE), shown, detail);
}

/// Whether there is no webhook, or one that this server can ask.
pub(super) fn may_be_asked(spec: CustomResourceDefinitionSpec<'_>) -> bool {
    let conversion = spec.conversion();
    conversion.is_none_or(|c| webhook::may_be_asked(c.conversion_review_versions()))
}

/// Whether there is a bundle, and no certificate in it.
pub(super) fn has_unsound_bundle(spec: CustomResourceDefinitionSpec<'_>) -> bool {
    let client = spec.conversion().and_then(|c| c.webhook_client_config());
    client.is_some_and(|client| finds(client.node(), |e| bundle(client, e)))
}
