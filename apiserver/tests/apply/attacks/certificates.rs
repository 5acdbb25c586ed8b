//! Certificates that nobody should be believed for.

use component::serving::Pair;
use component::testing::Ca;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    date_time_ymd,
};

use super::who;
use crate::bearer::ask_over;
use crate::daemon::Daemon;
use crate::wire::Wire;

/// A certificate with others sent behind it.
fn behind(leaf: Pair, chain: &[&str]) -> Pair {
    Pair {
        cert: [&[leaf.cert.as_str()], chain].concat().join(""),
        key: leaf.key,
    }
}

/// A certificate that somebody signs with his own, as if he were an authority.
fn signed_by(signer: &Pair, user: &str) -> Pair {
    let key = KeyPair::from_pem(&signer.key).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&signer.cert, key).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let leaf = Pair {
        cert: params.signed_by(&key, &issuer).unwrap().pem(),
        key: key.serialize_pem(),
    };
    behind(leaf, &[&signer.cert])
}

fn root(user: &str, of: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Pair {
    of.client_with(user, &["system:masters"], change)
}

#[tokio::test]
async fn a_certificate_is_believed_only_from_the_authority_for_clients_and_in_its_time() {
    let api = Daemon::start().await;
    let (_, ca) = api.place();
    let namesake = Ca::new("ca");
    let below = ca.below("department");
    let deeper = below.below("office");
    let strange = namesake.below("department");
    let long_ago = |p: &mut CertificateParams| {
        p.not_before = date_time_ymd(2001, 1, 1);
        p.not_after = date_time_ymd(2002, 1, 1);
    };
    let to_come = |p: &mut CertificateParams| {
        p.not_before = date_time_ymd(2301, 1, 1);
        p.not_after = date_time_ymd(2302, 1, 1);
    };
    let for_servers = |p: &mut CertificateParams| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let for_code = |p: &mut CertificateParams| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    };
    let same = |_: &mut CertificateParams| {};
    for (what, pair) in [
        ("expired", root("eve", ca, long_ago)),
        ("not yet valid", root("eve", ca, to_come)),
        ("for servers", root("eve", ca, for_servers)),
        ("for code", root("eve", ca, for_code)),
        (
            "of another authority of that name",
            root("eve", &namesake, same),
        ),
        (
            "of another authority, which is sent along",
            behind(root("eve", &namesake, same), &[&namesake.pem]),
        ),
        (
            "below another authority, all of it sent along",
            behind(root("eve", &strange, same), &[&strange.pem, &namesake.pem]),
        ),
        (
            "below an authority that is not sent along",
            root("eve", &below, same),
        ),
        (
            "below one of two, of which one is missing",
            behind(root("eve", &deeper, same), &[&deeper.pem]),
        ),
        (
            "expired, below an authority that is good",
            behind(root("eve", &below, long_ago), &[&below.pem]),
        ),
        (
            "signed by a certificate that is no authority's",
            signed_by(&ca.client("ann", &[]), "eve"),
        ),
    ] {
        let (code, user) = who(Wire::with(&api, &pair).await, &[]).await;
        assert_eq!(code, 401, "{what}: {user}");
        // It does not make him nobody, who may ask this.
        let wire = Wire::with(&api, &pair).await;
        let (code, _) = ask_over(wire, "GET /version", &[], "").await;
        assert_eq!(code, 401, "{what}");
    }
    let (code, _) = ask_over(Wire::anonymous(&api).await, "GET /version", &[], "").await;
    assert_eq!(code, 200);
    let for_anything = |p: &mut CertificateParams| p.extended_key_usages.clear();
    for (what, pair) in [
        ("a client's", root("eve", ca, same)),
        (
            "for no purpose in particular",
            root("eve", ca, for_anything),
        ),
        (
            "below an authority",
            behind(root("eve", &below, same), &[&below.pem]),
        ),
        (
            "below two",
            behind(root("eve", &deeper, same), &[&deeper.pem, &below.pem]),
        ),
        (
            "with a stranger's behind it",
            behind(root("eve", ca, same), &[&strange.pem]),
        ),
    ] {
        let (code, user) = who(Wire::with(&api, &pair).await, &[]).await;
        assert_eq!(
            (code, user["username"].as_str()),
            (201, Some("eve")),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_certificate_without_a_name_is_nobodys() {
    let api = Daemon::start().await;
    let (_, ca) = api.place();
    let nameless = ca.client_with("", &["system:masters"], |p| {
        p.distinguished_name = DistinguishedName::new();
        let masters = "system:masters";
        p.distinguished_name.push(DnType::OrganizationName, masters);
    });
    let (code, user) = who(Wire::with(&api, &nameless).await, &[]).await;
    assert!([401, 403].contains(&code), "{code} {user}");
}
