//! Parsers that are private to this crate, as functions over bytes: for the fuzz targets and for nobody else.

use std::path::Path;

use bytes::Bytes;

use crate::admission::config as admission;
use crate::audit::policy::Policy;
use crate::auth::service_account::keys;
use crate::auth::token::file as tokens;
use crate::authz::abac;
use crate::encryption::choice::Layer;
use crate::encryption::cipher;
use crate::encryption::config::EncryptionConfiguration;
use crate::encryption::kms::envelope;
use crate::stream::proxy::html::Rewriter;
use crate::stream::proxy::links::Links;

/// Which of the files that a server is configured with a text is.
#[must_use]
pub fn configuration(text: &[u8]) -> Vec<&'static str> {
    let text_of = String::from_utf8_lossy(text);
    let read = [
        ("audit", Policy::read(text).is_ok()),
        (
            "admission",
            admission::File::parse(text, Path::new("/etc/admission.yaml")).is_ok(),
        ),
        (
            "encryption",
            component::config::read::<EncryptionConfiguration>(text).is_ok(),
        ),
        (
            "authorization",
            crate::authz::config::read(&text_of, &[]).is_ok(),
        ),
        (
            "authentication",
            crate::auth::jwt::config::read(&text_of, &[]).is_ok(),
        ),
        ("abac", text_of.lines().all(|line| abac::read(line).is_ok())),
        ("tokens", tokens::parse(&text_of).is_ok()),
    ];
    read.into_iter()
        .filter(|(_, ok)| *ok)
        .map(|(name, _)| name)
        .collect()
}

/// Labels and lengths of the blocks of a PEM text.
#[must_use]
pub fn pem_blocks(text: &str) -> Vec<(String, usize)> {
    let blocks = keys::pem_blocks(text).into_iter();
    blocks.map(|(label, der)| (label, der.len())).collect()
}

/// Data of an envelope of a key management service.
#[must_use]
pub fn kms_envelope(sealed: &[u8]) -> Option<Vec<u8>> {
    let (_, data) = envelope::parse(Bytes::copy_from_slice(sealed)).ok()?;
    Some(data.to_vec())
}

/// What each cipher opens of bytes, and what it opens of them once it has sealed them itself.
#[must_use]
pub fn ciphers(bytes: &[u8]) -> Vec<[Option<Vec<u8>>; 2]> {
    const KEY: [u8; 32] = [7; 32];
    let layers = [
        cipher::aes_cbc(&KEY),
        cipher::aes_gcm(&KEY[..16]),
        cipher::secretbox(&KEY),
    ];
    let open = |layer: &dyn Layer, sealed: &[u8]| {
        let opened = layer.open("/registry/secrets/a/b", &Bytes::copy_from_slice(sealed));
        opened
            .and_then(|o| o.at_once())
            .ok()
            .map(|o| o.value.to_vec())
    };
    let each = layers.into_iter().flatten().map(|layer| {
        let mut sealed = Vec::new();
        let sealing = layer.seal("/registry/secrets/a/b", bytes, &mut sealed);
        [
            open(&*layer, bytes),
            sealing.ok().and_then(|()| open(&*layer, &sealed)),
        ]
    });
    each.collect()
}

/// A page that comes in these pieces, with links of its backend led through the proxy.
#[must_use]
pub fn proxied_page(pieces: &[&[u8]]) -> Vec<u8> {
    let links = Links {
        prefix: "/api/v1/namespaces/a/pods/b/proxy".into(),
        backend: "10.0.0.1:80".into(),
        host: "api:6443".into(),
    };
    let mut rewriter = Rewriter::new(links);
    let mut page: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| rewriter.push(piece))
        .collect();
    page.extend(rewriter.end());
    page
}
