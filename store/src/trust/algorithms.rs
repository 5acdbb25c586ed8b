//! What signs certificates.

use std::sync::{Arc, LazyLock};

use ring::signature;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};
use webpki::ring as known;

/// Signatures under certificates: rustls' list, with shorter RSA keys where ring has them. Go takes RSA
/// keys of 1024 bits and more (`crypto/rsa`, `rsa1024min`), and neither SHA-1 nor MD5.
pub(super) static CERTIFICATES: &[&dyn SignatureVerificationAlgorithm] = &[
    known::ECDSA_P256_SHA256,
    known::ECDSA_P256_SHA384,
    known::ECDSA_P384_SHA256,
    known::ECDSA_P384_SHA384,
    known::ED25519,
    known::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    known::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    known::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    &ShortRsa {
        signature: alg_id::RSA_PKCS1_SHA256,
        check: &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    },
    known::RSA_PKCS1_2048_8192_SHA384,
    &ShortRsa {
        signature: alg_id::RSA_PKCS1_SHA512,
        check: &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
    },
    known::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
    known::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
    known::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
];

/// RSA with keys from 1024 bits on.
#[derive(Debug)]
struct ShortRsa {
    signature: AlgorithmIdentifier,
    check: &'static signature::RsaParameters,
}

impl SignatureVerificationAlgorithm for ShortRsa {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        signature::UnparsedPublicKey::new(self.check, public_key)
            .verify(message, signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

/// What Go says of a signature of an algorithm that is not in the list, by the object identifiers in DER.
pub(super) fn unknown(algorithm: &[u8]) -> &'static str {
    const INSECURE: [(&[u8], &str); 3] = [
        (
            b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05",
            "x509: cannot verify signature: insecure algorithm SHA1-RSA",
        ),
        (
            b"\x06\x07\x2a\x86\x48\xce\x3d\x04\x01",
            "x509: cannot verify signature: insecure algorithm ECDSA-SHA1",
        ),
        (
            b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04",
            "x509: cannot verify signature: insecure algorithm MD5-RSA",
        ),
    ];
    let known = INSECURE.iter().find(|(id, _)| algorithm.starts_with(id));
    known.map_or(
        "x509: cannot verify signature: algorithm unimplemented",
        |(_, said)| said,
    )
}

/// What Go says of a wrong signature, by the algorithm of the key.
pub(super) fn wrong(key: &[u8]) -> &'static str {
    if key == alg_id::RSA_ENCRYPTION.as_ref() {
        "crypto/rsa: verification error"
    } else if key == alg_id::ED25519.as_ref() {
        "x509: Ed25519 verification failure"
    } else {
        "x509: ECDSA verification failure"
    }
}

/// What handshakes are done with.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static RING: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    Arc::clone(&RING)
}
