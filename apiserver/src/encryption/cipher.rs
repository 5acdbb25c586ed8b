//! The ciphers of upstream's providers, and how they lay out what they seal.
//!
//! | provider | layout | bound to the etcd key |
//! |---|---|---|
//! | aescbc | 16 bytes IV, blocks with PKCS #7 padding | no |
//! | aesgcm | 12 bytes nonce, ciphertext, 16 bytes tag | yes |
//! | secretbox | 24 bytes nonce, 16 bytes tag, ciphertext | no |

use aes::cipher::generic_array::GenericArray;
use aes::cipher::inout::InOutBuf;
use aes::cipher::{
    BlockCipher, BlockDecryptMut, BlockEncrypt, BlockEncryptMut, InnerIvInit, KeyInit, KeyIvInit,
    StreamCipher,
};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::AesGcm;
use aes_gcm::aead::AeadInPlace;
use aes_gcm::aead::consts::U12;
use bytes::Bytes;
use poly1305::Poly1305;
use ring::rand::{SecureRandom, SystemRandom};
use salsa20::XSalsa20;
use store::entry::{Opened, TransformError};
use subtle::ConstantTimeEq;

use super::choice::{Layer, Opening, refusal};

/// A block of AES.
const BLOCK: usize = 16;
pub(super) const GCM_NONCE: usize = 12;
const BOX_NONCE: usize = 24;
/// The tags of AES-GCM and of Poly1305.
pub(super) const TAG: usize = 16;
/// The key of Poly1305.
const MAC_KEY: usize = 32;

pub(super) fn too_short() -> TransformError {
    refusal("the stored data was shorter than the required size")
}

/// The reason says no more: what is wrong must not be told to who may have changed it.
fn not_authentic() -> TransformError {
    refusal("the stored data was not sealed with this key, or not for this place")
}

/// `N` random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N], TransformError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| refusal("the system gives no random bytes"))?;
    Ok(bytes)
}

/// The same, appended as well.
fn nonce<const N: usize>(out: &mut Vec<u8>) -> Result<[u8; N], TransformError> {
    let bytes = random()?;
    out.extend_from_slice(&bytes);
    Ok(bytes)
}

fn opened(value: Vec<u8>) -> Opening {
    Opening::Open(Opened {
        value: value.into(),
        stale: false,
    })
}

/// AES in CBC mode: nothing proves that the value was not changed.
pub(crate) fn aes_cbc(key: &[u8]) -> Option<Box<dyn Layer>> {
    let layer: Box<dyn Layer> = match key.len() {
        16 => Box::new(Cbc(Aes128::new_from_slice(key).ok()?)),
        24 => Box::new(Cbc(Aes192::new_from_slice(key).ok()?)),
        32 => Box::new(Cbc(Aes256::new_from_slice(key).ok()?)),
        _ => return None,
    };
    Some(layer)
}

/// AES in Galois counter mode; the nonce is random, so a key must be replaced before 2^32 writes.
pub(crate) fn aes_gcm(key: &[u8]) -> Option<Box<dyn Layer>> {
    let layer: Box<dyn Layer> = match key.len() {
        16 => Box::new(Gcm(AesGcm::<Aes128, U12>::new_from_slice(key).ok()?)),
        24 => Box::new(Gcm(AesGcm::<Aes192, U12>::new_from_slice(key).ok()?)),
        32 => Box::new(Gcm(AesGcm::<Aes256, U12>::new_from_slice(key).ok()?)),
        _ => return None,
    };
    Some(layer)
}

/// The same with a key of 32 bytes.
pub(super) fn aes_256_gcm(key: &[u8; 32]) -> impl Layer + use<> {
    Gcm(AesGcm::<Aes256, U12>::new(GenericArray::from_slice(key)))
}

/// NaCl's secretbox: XSalsa20 and Poly1305.
pub(crate) fn secretbox(key: &[u8]) -> Option<Box<dyn Layer>> {
    Some(Box::new(SecretBox(key.try_into().ok()?)))
}

impl Layer for Box<dyn Layer> {
    fn open(&self, key: &str, sealed: &Bytes) -> Result<Opening, TransformError> {
        (**self).open(key, sealed)
    }

    fn seal(&self, key: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        (**self).seal(key, value, out)
    }
}

struct Cbc<C>(C);

impl<C> Layer for Cbc<C>
where
    C: BlockEncryptMut + BlockDecryptMut + BlockCipher + Clone + Send + Sync,
{
    fn open(&self, _key: &str, sealed: &Bytes) -> Result<Opening, TransformError> {
        let (iv, blocks) = sealed.split_at_checked(BLOCK).ok_or_else(too_short)?;
        let mut value = blocks.to_vec();
        let (chunks, rest) = InOutBuf::from(value.as_mut_slice()).into_chunks();
        if !rest.is_empty() {
            return Err(refusal(
                "the stored data is not a multiple of the block size",
            ));
        }
        cbc::Decryptor::inner_iv_slice_init(self.0.clone(), iv)
            .map_err(|_| too_short())?
            .decrypt_blocks_inout_mut(chunks);
        let pad = value.last().copied().unwrap_or(0);
        let end = value.len().checked_sub(pad.into());
        match end {
            Some(end) if pad > 0 && value[end..].iter().all(|b| *b == pad) => {
                value.truncate(end);
                Ok(opened(value))
            }
            _ => Err(refusal("the stored data has no valid padding")),
        }
    }

    fn seal(&self, _key: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        let iv = nonce::<BLOCK>(out)?;
        let start = out.len();
        let pad = BLOCK - value.len() % BLOCK;
        out.extend_from_slice(value);
        out.extend(std::iter::repeat_n(pad as u8, pad));
        let (chunks, _) = InOutBuf::from(&mut out[start..]).into_chunks();
        cbc::Encryptor::inner_iv_slice_init(self.0.clone(), &iv)
            .map_err(|_| too_short())?
            .encrypt_blocks_inout_mut(chunks);
        Ok(())
    }
}

struct Gcm<A>(A);

impl<C> Layer for Gcm<AesGcm<C, U12>>
where
    C: BlockCipher
        + aes::cipher::BlockSizeUser<BlockSize = aes::cipher::consts::U16>
        + BlockEncrypt
        + Send
        + Sync,
{
    fn open(&self, key: &str, sealed: &Bytes) -> Result<Opening, TransformError> {
        let (nonce, rest) = sealed.split_at_checked(GCM_NONCE).ok_or_else(too_short)?;
        let size = rest.len().checked_sub(TAG).ok_or_else(not_authentic)?;
        let (text, tag) = rest.split_at(size);
        let mut value = text.to_vec();
        self.0
            .decrypt_in_place_detached(
                GenericArray::from_slice(nonce),
                key.as_bytes(),
                &mut value,
                GenericArray::from_slice(tag),
            )
            .map_err(|_| not_authentic())?;
        Ok(opened(value))
    }

    fn seal(&self, key: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        let nonce = nonce::<GCM_NONCE>(out)?;
        let start = out.len();
        out.extend_from_slice(value);
        let nonce = GenericArray::from_slice(&nonce);
        let tag = self
            .0
            .encrypt_in_place_detached(nonce, key.as_bytes(), &mut out[start..])
            .map_err(|_| refusal("the value is too large for AES-GCM"))?;
        out.extend_from_slice(&tag);
        Ok(())
    }
}

struct SecretBox([u8; 32]);

impl SecretBox {
    /// The stream for a nonce, and the authenticator whose key is the beginning of it.
    fn start(&self, nonce: &[u8]) -> (XSalsa20, Poly1305) {
        let mut stream = <XSalsa20 as KeyIvInit>::new(
            GenericArray::from_slice(&self.0),
            GenericArray::from_slice(nonce),
        );
        let mut mac_key = [0; MAC_KEY];
        stream.apply_keystream(&mut mac_key);
        (
            stream,
            <Poly1305 as KeyInit>::new(GenericArray::from_slice(&mac_key)),
        )
    }
}

impl Layer for SecretBox {
    fn open(&self, _key: &str, sealed: &Bytes) -> Result<Opening, TransformError> {
        let (nonce, rest) = sealed.split_at_checked(BOX_NONCE).ok_or_else(too_short)?;
        let (tag, text) = rest.split_at_checked(TAG).ok_or_else(too_short)?;
        let (mut stream, mac) = self.start(nonce);
        if !bool::from(mac.compute_unpadded(text).as_slice().ct_eq(tag)) {
            return Err(not_authentic());
        }
        let mut value = text.to_vec();
        stream.apply_keystream(&mut value);
        Ok(opened(value))
    }

    fn seal(&self, _key: &str, value: &[u8], out: &mut Vec<u8>) -> Result<(), TransformError> {
        let nonce = nonce::<BOX_NONCE>(out)?;
        let at = out.len();
        let (mut stream, mac) = self.start(&nonce);
        out.extend_from_slice(&[0; TAG]);
        out.extend_from_slice(value);
        let (tag, text) = out[at..].split_at_mut(TAG);
        stream.apply_keystream(text);
        tag.copy_from_slice(&mac.compute_unpadded(text));
        Ok(())
    }
}
