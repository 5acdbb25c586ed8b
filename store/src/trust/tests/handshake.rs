//! Real handshakes, of either version of TLS, over a pipe.

use rustls::ServerConfig;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::make::{Authority, extension, private, version_1};
use super::*;

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

/// Asks clients for a certificate, and believes those that the roots vouch for.
#[derive(Debug)]
struct Asking(Roots);

impl ClientCertVerifier for Asking {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let chain: Vec<_> = [leaf].into_iter().chain(others).cloned().collect();
        let verified = self.0.verify(&chain, Usage::Client, None, now);
        verified.map_err(Untrusted::into_rustls)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = algorithms::provider().signature_verification_algorithms;
        known.supported_schemes()
    }
}

/// What both sides say of a handshake.
async fn handshake(
    version: &'static rustls::SupportedProtocolVersion,
    (server, believes): (Identity, Roots),
    (client, believe): (Option<Identity>, Believe),
) -> (Result<(), String>, Result<(), String>) {
    let key = certified(server.0, server.1).unwrap();
    let config = ServerConfig::builder_with_provider(algorithms::provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Asking(believes)))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let config = super::client(&believe, client, &[]).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let (near, far) = tokio::io::duplex(1 << 16);
    let name = ServerName::try_from("web.test").unwrap();
    let said = |e| in_words(e).to_string();
    let (accepted, connected) = tokio::join!(acceptor.accept(near), connector.connect(name, far));
    (
        accepted.map(drop).map_err(said),
        connected.map(drop).map_err(said),
    )
}

#[tokio::test]
async fn certificates_that_webpki_cannot_read_or_refuses_serve_both_sides() {
    let own = Authority::new("web.test", |p| {
        p.subject_alt_names = make::params("", &["web.test"]).subject_alt_names;
    });
    let ca = Authority::new("ca", |_| {});
    let (user, key) = ca.leaf_and_key(&[], |_| {});
    let user = ca.again(&user, version_1);
    let trust = |der: &CertificateDer<'static>| roots(std::slice::from_ref(der));
    for version in VERSIONS {
        let server = (vec![own.der.clone()], private(own.key()));
        let client = Some((vec![user.clone()], private(&key)));
        let believe = Believe::Roots(Arc::new(trust(&own.der)));
        let ends = handshake(version, (server, trust(&ca.der)), (client, believe)).await;
        assert_eq!(ends, (Ok(()), Ok(())), "{version:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_believed_is_told_so_in_gos_words() {
    let ca = Authority::new("ca", |_| {});
    let (leaf, key) = ca.leaf_and_key(&["web.test"], |_| {});
    let stranger = Authority::new("stranger", |_| {});
    for version in VERSIONS {
        let server = (vec![leaf.clone()], private(&key));
        let believe = Believe::Roots(Arc::new(roots(std::slice::from_ref(&stranger.der))));
        let client = Some((vec![leaf.clone()], private(&key)));
        let believes = roots(std::slice::from_ref(&ca.der));
        let (_, said) = handshake(version, (server, believes), (client, believe)).await;
        assert_eq!(
            said.unwrap_err(),
            "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        );
    }
}

#[tokio::test]
async fn a_client_must_hold_the_key_of_its_certificate() {
    let ca = Authority::new("ca", |_| {});
    let (leaf, key) = ca.leaf_and_key(&["web.test"], |_| {});
    let (other, _) = ca.leaf_and_key(&["web.test"], |_| {});
    for version in VERSIONS {
        // What `certified` would refuse.
        let stolen = CertifiedKey::new(
            vec![other.clone()],
            algorithms::provider()
                .key_provider
                .load_private_key(private(&key))
                .unwrap(),
        );
        let mut config = client(&Believe::Anyone, None, &[]).unwrap();
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(stolen));
        let server = certified(vec![leaf.clone()], private(&key)).unwrap();
        let server = ServerConfig::builder_with_provider(algorithms::provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(Arc::new(Asking(roots(std::slice::from_ref(&ca.der)))))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(server)));
        let (near, far) = tokio::io::duplex(1 << 16);
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from("web.test").unwrap();
        let (accepted, _) = tokio::join!(acceptor.accept(near), connector.connect(name, far));
        assert!(accepted.unwrap_err().to_string().contains("BadSignature"));
    }
}

#[tokio::test]
async fn whoever_believes_anyone_takes_what_cannot_be_read() {
    let ca = Authority::new("ca", |_| {});
    let (leaf, key) = ca.leaf_and_key(&["else.test"], |p| {
        p.custom_extensions = vec![extension(&[1, 2, 3], true, &[5, 0])];
    });
    let leaf = ca.again(&leaf, version_1);
    for version in VERSIONS {
        let server = (vec![leaf.clone()], private(&key));
        let (user, user_key) = ca.leaf_and_key(&[], |_| {});
        let client = Some((vec![user], private(&user_key)));
        let believes = roots(std::slice::from_ref(&ca.der));
        let ends = handshake(version, (server, believes), (client, Believe::Anyone)).await;
        assert_eq!(ends, (Ok(()), Ok(())));
    }
}
