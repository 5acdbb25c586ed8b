//! Public keys of requests, and what is signed with them.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, RSA_PSS_2048_8192_SHA256,
    UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::Oid;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// A public key, as far as it can be used.
#[derive(PartialEq)]
pub(super) enum Key {
    Ed25519(Vec<u8>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    /// Upstream takes these, too; nothing here can verify what they sign.
    P521(Vec<u8>),
    /// Another curve, by its name.
    Curve(&'static str),
    Rsa {
        bits: usize,
        key: Vec<u8>,
    },
    Other,
}

const ED25519_OID: &str = "1.3.101.112";
const CURVES: [(&str, &str); 4] = [
    ("1.2.840.10045.3.1.7", "P-256"),
    ("1.3.132.0.34", "P-384"),
    ("1.3.132.0.35", "P-521"),
    ("1.3.132.0.33", "P-224"),
];

impl Key {
    /// A key in the form of PKIX.
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
        rest.is_empty().then(|| Self::of(&info))
    }

    pub(super) fn of(info: &SubjectPublicKeyInfo<'_>) -> Self {
        let bytes = info.subject_public_key.data.to_vec();
        if info.algorithm.algorithm.to_id_string() == ED25519_OID {
            return Self::Ed25519(bytes);
        }
        match info.parsed() {
            Ok(PublicKey::RSA(rsa)) => Self::Rsa {
                bits: rsa.key_size(),
                key: bytes,
            },
            Ok(PublicKey::EC(_)) => match curve(info) {
                Some("P-256") => Self::P256(bytes),
                Some("P-384") => Self::P384(bytes),
                Some("P-521") => Self::P521(bytes),
                Some(other) => Self::Curve(other),
                None => Self::Other,
            },
            _ => Self::Other,
        }
    }

    /// Whether the key is that of a certificate.
    pub(super) fn is_of(&self, info: &SubjectPublicKeyInfo<'_>) -> bool {
        !matches!(self, Self::Curve(_) | Self::Other) && *self == Self::of(info)
    }

    /// Whether it signed a message: with SHA-256 where a hash is needed, and padding of PSS.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, key): (&dyn VerificationAlgorithm, _) = match self {
            Self::Ed25519(key) => (&ED25519, key),
            Self::P256(key) => (&ECDSA_P256_SHA256_ASN1, key),
            Self::P384(key) => (&ECDSA_P384_SHA256_ASN1, key),
            Self::Rsa { key, .. } => (&RSA_PSS_2048_8192_SHA256, key),
            Self::P521(_) | Self::Curve(_) | Self::Other => return false,
        };
        let key = UnparsedPublicKey::new(algorithm, key);
        key.verify(message, signature).is_ok()
    }
}

fn curve(info: &SubjectPublicKeyInfo<'_>) -> Option<&'static str> {
    let parameters = info.algorithm.parameters.as_ref()?;
    let oid = Oid::try_from(parameters).ok()?.to_id_string();
    let mut curves = CURVES.iter();
    curves.find(|(id, _)| *id == oid).map(|(_, name)| *name)
}

/// A request of PKCS#10.
pub(super) struct Request<'a>(X509CertificationRequest<'a>);

impl<'a> Request<'a> {
    pub(super) fn parse(der: &'a [u8]) -> Option<Self> {
        let (rest, request) = X509CertificationRequest::from_der(der).ok()?;
        rest.is_empty().then_some(Self(request))
    }

    pub(super) fn key(&self) -> Key {
        Key::of(&self.0.certification_request_info.subject_pki)
    }

    /// Whether it is signed with its own key.
    pub(super) fn is_signed(&self) -> bool {
        self.0.verify_signature().is_ok()
    }
}
