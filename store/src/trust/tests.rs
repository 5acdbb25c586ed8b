//! Every row was judged by Go 1.26's `x509.Certificate.Verify` first; `want` is what it said.

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::*;

mod handshake;
mod make;
mod rows;

use rows::Row;

/// January 2027.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(1_800_000_000))
}

fn roots(of: &[CertificateDer<'static>]) -> Roots {
    let mut roots = Roots::default();
    roots.add_readable(of.iter().cloned());
    roots
}

fn host(row: &Row) -> Option<ServerName<'static>> {
    let given = Some(row.host).filter(|h| !h.is_empty());
    given.map(|h| ServerName::try_from(h.to_owned()).unwrap())
}

#[test]
fn certificates_are_judged_as_go_judges_them() {
    for row in rows::all() {
        let judged = roots(&row.roots).verify(&row.chain, row.usage, host(&row).as_ref(), now());
        let said = judged.err().map(|e| e.to_string()).unwrap_or_default();
        assert_eq!(said, row.want, "{}", row.what);
    }
}

/// What this module is for: the column goes when webpki learns it.
#[test]
fn webpki_alone_judges_otherwise_where_the_rows_say_so() {
    for row in rows::all() {
        let anchors = row.roots.iter();
        let anchors: Vec<_> = anchors
            .map(|der| webpki::anchor_from_trusted_cert(der).unwrap())
            .collect();
        let (leaf, others) = row.chain.split_first().unwrap();
        let usage = match row.usage {
            Usage::Server => KeyUsage::server_auth(),
            Usage::Client => KeyUsage::client_auth(),
        };
        let judged = EndEntityCert::try_from(leaf).and_then(|leaf| {
            let known = algorithms::provider().signature_verification_algorithms;
            leaf.verify_for_usage(known.all, &anchors, others, now(), usage, None, None)?;
            host(&row).map_or(Ok(()), |name| leaf.verify_is_valid_for_subject_name(&name))
        });
        assert_eq!(judged.is_ok(), row.webpki, "{}: {judged:?}", row.what);
    }
}

#[test]
fn a_bundle_gives_what_can_be_read_of_it() {
    let ca = make::Authority::new("ca", |_| {});
    let mut roots = Roots::default();
    let many = [CertificateDer::from(vec![1, 2, 3]), ca.der.clone()];
    assert_eq!(roots.add_readable(many), 1);
    assert!(roots.add(CertificateDer::from(vec![1])).is_err());
    let subjects = roots.subjects();
    assert_eq!(subjects.len(), 1);
    assert_eq!(
        subjects[0].as_ref(),
        ca.subject().as_slice(),
        "with its tag"
    );
}

#[test]
fn a_certificate_and_the_key_of_another_are_no_pair() {
    let ca = make::Authority::new("ca", |_| {});
    let (mine, key) = ca.leaf_and_key(&["web.test"], |_| {});
    let (_, other) = ca.leaf_and_key(&["web.test"], |_| {});
    let refused = certified(vec![mine.clone()], make::private(&other)).unwrap_err();
    assert!(matches!(
        refused,
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)
    ));
    certified(vec![mine], make::private(&key)).unwrap();
    assert!(certified(Vec::new(), make::private(&key)).is_err());
}

#[test]
fn failures_are_told_in_gos_words() {
    let tls = |e: rustls::Error| {
        in_words(std::io::Error::new(std::io::ErrorKind::InvalidData, e)).to_string()
    };
    assert_eq!(
        tls(Untrusted::UnknownAuthority(None).into_rustls()),
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    let alert = rustls::AlertDescription::BadCertificate;
    assert_eq!(
        tls(rustls::Error::AlertReceived(alert)),
        "remote error: tls: bad certificate"
    );
    let other = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    assert_eq!(
        in_words(other).kind(),
        std::io::ErrorKind::ConnectionReset,
        "as it is"
    );
}
