//! What lies in etcd of a sealed value: the data, and what its key is made from.
//!
//! Upstream's `EncryptedObject`, byte for byte but for the order of annotations, which is of no account.
//! What is said of the key is the same for every value that one seed seals; it stands behind the data,
//! so that sealing is appending. Source: `envelope/kmsv2/envelope.go`.

use bytes::{Buf, Bytes};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use proto::meta::names;
use proto::path::FieldError;
use sha2::{Digest as _, Sha256};

use crate::plugin::pb::envelope::{EncryptedDekSourceType, EncryptedObject};

/// The bounds of what a plugin may say, in bytes.
const MOST_SOURCE: usize = 1024;
const MOST_KEY_ID: usize = 1024;
const MOST_ANNOTATIONS: usize = 32 * 1024;
/// The number of the field of the data.
const DATA: u32 = 1;

pub(super) type Digest = [u8; 32];

/// What a key is made from, as etcd has it: sealed by a plugin.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Source(EncryptedObject);

impl Source {
    /// A seed that a plugin sealed.
    ///
    /// # Errors
    /// If it did not do so within the bounds.
    pub(super) fn of_seed(
        sealed: Bytes,
        key_id: String,
        annotations: std::collections::BTreeMap<String, Bytes>,
    ) -> Result<Self, String> {
        let source = Self(EncryptedObject {
            encrypted_data: Bytes::new(),
            key_id,
            encrypted_dek_source: sealed,
            annotations,
            encrypted_dek_source_type: EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed.into(),
        });
        source.check()?;
        Ok(source)
    }

    pub(super) fn key_id(&self) -> &str {
        &self.0.key_id
    }

    pub(super) fn sealed(&self) -> &Bytes {
        &self.0.encrypted_dek_source
    }

    pub(super) fn annotations(&self) -> &std::collections::BTreeMap<String, Bytes> {
        &self.0.annotations
    }

    /// Whether a seed was sealed, and not a key.
    pub(super) fn is_seed(&self) -> bool {
        self.0.encrypted_dek_source_type() == EncryptedDekSourceType::HkdfSha256XnonceAesGcmSeed
    }

    /// What stands behind the data.
    pub(super) fn tail(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }

    /// Equal for equal sources only.
    pub(super) fn digest(&self) -> Digest {
        Sha256::digest(self.tail()).into()
    }

    fn check(&self) -> Result<(), String> {
        if EncryptedDekSourceType::try_from(self.0.encrypted_dek_source_type).is_err() {
            let kind = self.0.encrypted_dek_source_type;
            return Err(format!("unknown encryptedDEKSourceType: {kind}"));
        }
        check_source(&self.0.encrypted_dek_source)
            .map_err(|why| format!("failed to validate encrypted DEK source: {why}"))?;
        check_key_id(&self.0.key_id).map_err(|bad| format!("failed to validate key id: {bad}"))?;
        check_annotations(&self.0.annotations)
            .map_err(|why| format!("failed to validate annotations: {why}"))
    }
}

/// The parts of a sealed value: where its key comes from, and the data.
///
/// # Errors
/// If they are not within the bounds.
pub(crate) fn parse(sealed: Bytes) -> Result<(Source, Bytes), String> {
    let mut object = EncryptedObject::decode(sealed).map_err(|e| e.to_string())?;
    let data = std::mem::take(&mut object.encrypted_data);
    if data.is_empty() {
        return Err("encrypted data is empty".to_owned());
    }
    let source = Source(object);
    source.check()?;
    Ok((source, data))
}

/// Appends what stands before data of this length.
pub(super) fn begin(out: &mut Vec<u8>, data: usize) {
    encode_key(DATA, WireType::LengthDelimited, out);
    encode_varint(data as u64, out);
}

fn check_source(sealed: &Bytes) -> Result<(), String> {
    match sealed.remaining() {
        0 => Err("encrypted DEK source is empty".to_owned()),
        len if len > MOST_SOURCE => Err(format!(
            "encrypted DEK source is {len} bytes, which exceeds the max size of {MOST_SOURCE}"
        )),
        _ => Ok(()),
    }
}

/// What is wrong with the name of a plugin's key.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BadKeyId {
    #[error("keyID is empty")]
    Empty,
    #[error("keyID is {0} bytes, which exceeds the max size of {MOST_KEY_ID}")]
    TooLong(usize),
}

impl BadKeyId {
    /// As metrics say it.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong(_) => "too_long",
        }
    }
}

pub(super) fn check_key_id(id: &str) -> Result<(), BadKeyId> {
    match id.len() {
        0 => Err(BadKeyId::Empty),
        len if len > MOST_KEY_ID => Err(BadKeyId::TooLong(len)),
        _ => Ok(()),
    }
}

fn check_annotations(all: &std::collections::BTreeMap<String, Bytes>) -> Result<(), String> {
    let mut problems: Vec<String> = all
        .keys()
        .filter_map(|name| not_a_domain(name))
        .map(|error| error.to_string())
        .collect();
    let size: usize = all
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if size > MOST_ANNOTATIONS {
        problems.push(format!(
            "total size of annotations is {size}, which exceeds the max size of {MOST_ANNOTATIONS}"
        ));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(proto::path::aggregate(&problems))
    }
}

/// What keeps the name of an annotation from being a domain of two labels at least.
fn not_a_domain(name: &str) -> Option<FieldError> {
    const AT: &str = "annotations";
    if name.is_empty() {
        return Some(FieldError::required(AT, ""));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let problems = names::dns_subdomain_problems(name);
    if !problems.is_empty() {
        return Some(FieldError::invalid(AT, name, problems.join(",")));
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        return Some(FieldError::invalid(AT, name, detail));
    }
    name.split('.').find_map(|label| {
        let problems = names::dns_label_problems(label);
        (!problems.is_empty()).then(|| FieldError::invalid(AT, label, problems.join(",")))
    })
}

#[cfg(test)]
mod tests;
