use std::io::Write;
use std::process::{Command, Stdio};

use rustls_pki_types::pem::{PemObject, SectionKind};

use super::*;

/// What openssl makes of its input: the content of the last PEM block.
fn openssl(arguments: &str, input: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut child = Command::new("openssl")
        .args(arguments.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments}");
    let block = <(SectionKind, Vec<u8>)>::from_pem_slice(&output.stdout).unwrap();
    (output.stdout, block.1)
}

#[test]
fn keys_are_read_as_openssl_writes_them_in_both_forms() {
    for curve in &CURVES {
        let make = format!(
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:{}",
            curve.name
        );
        let (pem, pkcs8) = openssl(&make, b"");
        let (_, sec1) = openssl("ec", &pem);
        let (_, spki) = openssl("ec -pubout", &pem);
        let key = Private::pkcs8(&pkcs8).unwrap();
        assert_eq!((key.curve, key.number.len()), (curve, curve.size));
        assert_eq!(
            curve.spki(key.point.as_ref().unwrap()),
            spki,
            "{}",
            curve.name
        );
        assert!(Private::sec1(&sec1).unwrap() == key, "{}", curve.name);
        assert!(Private::sec1(&pkcs8).is_none() && Private::pkcs8(&sec1).is_none());
        for cut in 0..sec1.len() {
            assert!(Private::sec1(&sec1[..cut]).is_none(), "{cut}");
        }
        // Without the public key beside it.
        let (_, bare) = openssl("ec -no_public", &pem);
        let bare = Private::sec1(&bare).unwrap();
        assert!(bare.number == key.number && bare.point.is_none());
    }
}

#[test]
fn another_curve_or_another_kind_of_key_is_none_of_these() {
    for make in [
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1",
        "genpkey -algorithm ED25519",
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024",
    ] {
        let (_, der) = openssl(make, b"");
        assert!(Private::pkcs8(&der).is_none(), "{make}");
    }
}
