//! What rustls asks in a handshake.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature_with_raw_key;
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};

use super::algorithms::provider;
use super::certificate::Certificate;
use super::{Roots, Untrusted, Usage, der};

/// Whether the holder of a certificate's key signed `message`, in TLS 1.2. rustls' own function has only
/// certificates that webpki can read.
///
/// # Errors
/// If not, or if that cannot be told.
pub fn verify_tls12_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let known = provider().signature_verification_algorithms;
    let found = known.mapping.iter().find(|(s, _)| *s == signed.scheme);
    let (_, candidates) = found.ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
    let certificate = Certificate::read(certificate).map_err(Untrusted::into_rustls)?;
    let (algorithm, key) = der::key(certificate.spki()).ok_or(CertificateError::BadEncoding)?;
    // In TLS 1.2 the scheme does not say which curve it is.
    let fitting = candidates
        .iter()
        .find(|c| c.public_key_alg_id().as_ref() == algorithm)
        .ok_or(CertificateError::BadSignature)?;
    fitting
        .verify_signature(key, message, signed.signature())
        .map(|()| HandshakeSignatureValid::assertion())
        .map_err(|_| CertificateError::BadSignature.into())
}

/// Whether the holder of a certificate's key signed `message`, in TLS 1.3.
///
/// # Errors
/// If not, or if that cannot be told.
pub fn verify_tls13_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let certificate = Certificate::read(certificate).map_err(Untrusted::into_rustls)?;
    let spki = SubjectPublicKeyInfoDer::from(certificate.spki());
    let known = provider().signature_verification_algorithms;
    verify_tls13_signature_with_raw_key(message, &spki, signed, &known)
}

/// Servers that the roots vouch for.
#[derive(Debug)]
pub(super) struct Vouched(pub(super) Arc<Roots>);

impl ServerCertVerifier for Vouched {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut chain = Vec::with_capacity(1 + intermediates.len());
        chain.push(end_entity.clone());
        chain.extend(intermediates.iter().cloned());
        self.0
            .verify(&chain, Usage::Server, Some(server_name), now)
            .map(|()| ServerCertVerified::assertion())
            .map_err(Untrusted::into_rustls)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Any server. A certificate that anybody could have made proves nothing, and neither does a signature of
/// its key: it is not looked at, so that keys are taken which ring does not know.
#[derive(Debug)]
pub(super) struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = provider().signature_verification_algorithms;
        let mut schemes = known.supported_schemes();
        schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
        schemes
    }
}
