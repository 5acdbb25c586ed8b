//! ECDSA on the curve P-521 with SHA-512 (`ES512`, RFC 7518, section 3.4), which ring has not.
//!
//! Signatures are the two numbers one after the other, as JSON Web Signatures have them.

use p521::ecdsa::signature::{Signer, Verifier};
use p521::ecdsa::{Signature, SigningKey, VerifyingKey};

/// A coordinate or a number, in bytes.
pub const SIZE: usize = 66;

/// A public key.
#[derive(Clone)]
pub struct PublicKey(VerifyingKey);

/// A private key.
pub struct PrivateKey(SigningKey);

impl PublicKey {
    /// The key that is this point, uncompressed (SEC 1, section 2.3.3). None if it is not on the curve.
    #[must_use]
    pub fn of_point(point: &[u8]) -> Option<Self> {
        VerifyingKey::from_sec1_bytes(point).ok().map(Self)
    }

    #[must_use]
    pub fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify(text, &signature).is_ok())
    }
}

impl PrivateKey {
    /// The key that is this number, of at most [`SIZE`] bytes. None if there is no such key.
    #[must_use]
    pub fn of_number(number: &[u8]) -> Option<Self> {
        let mut whole = [0; SIZE];
        let zeros = SIZE.checked_sub(number.len())?;
        whole[zeros..].copy_from_slice(number);
        SigningKey::from_slice(&whole).ok().map(Self)
    }

    #[must_use]
    pub fn sign(&self, text: &[u8]) -> Vec<u8> {
        let signature: Signature = self.0.sign(text);
        signature.to_bytes().to_vec()
    }

    /// The point of the public key, uncompressed.
    #[must_use]
    pub fn point(&self) -> Vec<u8> {
        let key = VerifyingKey::from(&self.0);
        key.to_encoded_point(false).as_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    /// The example of RFC 7515, appendix A.4.
    const X: &str =
        "AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk";
    const Y: &str =
        "ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2";
    const D: &str =
        "AY5pb7A0UFiB3RELSD64fTLOSV_jazdF7fLYyuTw8lOfRhWg6Y6rUrPAxerEzgdRhajnu0ferB0d53vM9mE15j2C";
    const SIGNED: &[u8] = b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA";
    const SIGNATURE: &str = "AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn";

    #[test]
    fn the_example_of_the_rfc_is_verified_and_signed_for() {
        let point = [vec![4], bytes(X), bytes(Y)].concat();
        let private = PrivateKey::of_number(&bytes(D)).unwrap();
        assert_eq!(private.point(), point);
        let public = PublicKey::of_point(&point).unwrap();
        for signature in [bytes(SIGNATURE), private.sign(SIGNED)] {
            assert!(public.verifies(SIGNED, &signature));
            assert!(!public.verifies(b"eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZB", &signature));
            for at in [0, 1, 65, 66, 131] {
                let mut changed = signature.clone();
                changed[at] ^= 1;
                assert!(!public.verifies(SIGNED, &changed), "{at}");
            }
            assert!(!public.verifies(SIGNED, &signature[1..]));
            assert!(!public.verifies(SIGNED, &[&signature[..], &[0]].concat()));
        }
    }

    /// CVE-2022-21449: numbers of zero were a signature of everything.
    #[test]
    fn zeros_sign_nothing() {
        let public = PublicKey::of_point(&[vec![4], bytes(X), bytes(Y)].concat()).unwrap();
        assert!(!public.verifies(SIGNED, &[0; 2 * SIZE]));
    }

    #[test]
    fn what_is_no_key_is_none() {
        let mut off = [vec![4], bytes(X), bytes(Y)].concat();
        off[SIZE] ^= 1;
        assert!(PublicKey::of_point(&off).is_none());
        assert!(PublicKey::of_point(&[]).is_none());
        assert!(PrivateKey::of_number(&[0; SIZE]).is_none());
        assert!(PrivateKey::of_number(&[0xff; SIZE]).is_none());
        assert!(PrivateKey::of_number(&[1; SIZE + 1]).is_none());
        assert!(PrivateKey::of_number(&[1]).is_some());
    }
}
