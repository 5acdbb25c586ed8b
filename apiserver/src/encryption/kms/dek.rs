//! Keys of values: made from a seed for each value anew, or, as upstream once did, one for many.
//!
//! A random nonce of AES-GCM is too short for more than 2^32 values. So a seed has 32 random bytes for
//! each value, which stand before the data, and HKDF (RFC 5869, its second half alone) makes the
//! value's key from both. Upstream remembers derived keys for every object; making one again costs less
//! than a microsecond. Source: `encrypt/aes/aes_extended_nonce.go`.

use bytes::Bytes;
use ring::hkdf::{HKDF_SHA256, KeyType, Prk};
use store::entry::{Opened, TransformError};

use super::super::choice::{Layer, refusal};
use super::super::cipher::{self, too_short};

/// Of a seed, of a value's key, and of the random bytes before the data.
const SIZE: usize = 32;
/// What stands before and behind a value's bytes: the random bytes, the nonce, the tag.
const AROUND: usize = SIZE + cipher::GCM_NONCE + cipher::TAG;

/// What opens values.
pub(super) enum Dek {
    Seed(Prk),
    Key(Box<dyn Layer>),
}

/// What seals values: a seed that this process made, and nobody else has.
pub(super) struct Seed(Prk);

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        SIZE
    }
}

/// The key of one value.
fn derive(seed: &Prk, info: &[u8]) -> Result<[u8; SIZE], TransformError> {
    let mut key = [0; SIZE];
    seed.expand(&[info], Length)
        .and_then(|made| made.fill(&mut key))
        .map_err(|_| refusal("failed to derive a key from the seed"))?;
    Ok(key)
}

impl Dek {
    /// What a plugin opened.
    ///
    /// # Errors
    /// If nothing can be opened by it.
    pub(super) fn new(plain: &[u8], is_seed: bool) -> Result<Self, String> {
        if !is_seed {
            let key = cipher::aes_gcm(plain).map(Self::Key);
            return key.ok_or_else(|| format!("crypto/aes: invalid key size {}", plain.len()));
        }
        if plain.len() < SIZE {
            let len = plain.len();
            return Err(format!("invalid seed length {len} used for key generation"));
        }
        Ok(Self::Seed(Prk::new_less_safe(HKDF_SHA256, plain)))
    }

    /// Opens the data of what was stored under `key`.
    pub(super) fn open(&self, key: &str, data: &Bytes) -> Result<Opened, TransformError> {
        let opening = match self {
            Self::Key(layer) => layer.open(key, data),
            Self::Seed(seed) => {
                let (info, _) = data.split_at_checked(SIZE).ok_or_else(too_short)?;
                let layer = cipher::aes_256_gcm(&derive(seed, info)?);
                layer.open(key, &data.slice(SIZE..))
            }
        };
        opening?.at_once()
    }
}

impl Seed {
    /// A new one, and its bytes, which the plugin is to seal.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub(super) fn generate() -> Result<(Self, [u8; SIZE]), TransformError> {
        let bytes = cipher::random()?;
        Ok((Self(Prk::new_less_safe(HKDF_SHA256, &bytes)), bytes))
    }

    /// What opens what this seals.
    pub(super) fn dek(&self) -> Dek {
        Dek::Seed(self.0.clone())
    }

    /// How long the data of a value of this length is.
    pub(super) fn sealed_len(value: usize) -> usize {
        AROUND + value
    }

    /// Appends the data of a value that is to be stored under `key`.
    pub(super) fn seal(
        &self,
        key: &str,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), TransformError> {
        let info = cipher::random::<SIZE>()?;
        out.extend_from_slice(&info);
        cipher::aes_256_gcm(&derive(&self.0, &info)?).seal(key, value, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "/registry/secrets/default/s";

    fn open(dek: &Dek, key: &str, data: &[u8]) -> Option<Bytes> {
        let opened = dek.open(key, &Bytes::copy_from_slice(data));
        opened.ok().map(|opened| opened.value)
    }

    #[test]
    fn a_seed_opens_what_it_sealed_there_and_unchanged() {
        let (seed, bytes) = Seed::generate().unwrap();
        let mut data = Vec::new();
        seed.seal(KEY, b"a value", &mut data).unwrap();
        assert_eq!(data.len(), Seed::sealed_len(7));
        let dek = Dek::new(&bytes, true).unwrap();
        assert_eq!(open(&dek, KEY, &data).as_deref(), Some(&b"a value"[..]));
        assert_eq!(open(&dek, "/registry/secrets/default/t", &data), None);
        for at in 0..data.len() {
            let mut changed = data.clone();
            changed[at] ^= 1;
            assert_eq!(open(&dek, KEY, &changed), None, "{at}");
            assert_eq!(open(&dek, KEY, &data[..at]), None, "{at}");
        }
        let mut again = Vec::new();
        seed.seal(KEY, b"a value", &mut again).unwrap();
        assert_ne!(again[..SIZE], data[..SIZE]);
    }

    /// RFC 5869, A.1: the second half of the first test case.
    #[test]
    fn keys_are_derived_by_the_second_half_of_hkdf() {
        let hex = |text: &str| -> Vec<u8> {
            let pairs = text.as_bytes().chunks(2);
            pairs
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        };
        let prk = hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        let seed = Prk::new_less_safe(HKDF_SHA256, &prk);
        let key = derive(&seed, &hex("f0f1f2f3f4f5f6f7f8f9")).unwrap();
        let okm = hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
        assert_eq!(key[..], okm[..]);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let why = |len: usize, is_seed| Dek::new(&vec![0; len], is_seed).err();
        assert_eq!(
            why(31, true).unwrap(),
            "invalid seed length 31 used for key generation"
        );
        assert_eq!(why(33, false).unwrap(), "crypto/aes: invalid key size 33");
        for (len, is_seed) in [
            (32, true),
            (64, true),
            (16, false),
            (24, false),
            (32, false),
        ] {
            assert_eq!(why(len, is_seed), None, "{len}");
        }
    }
}
