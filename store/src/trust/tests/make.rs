//! Certificates of all kinds, also such as no tool makes.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair, SigningKey, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::trust::certificate::Certificate;
use crate::trust::der;

/// Who signs.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) der: CertificateDer<'static>,
}

/// Valid from 2020 to 2040.
pub(super) fn params(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

impl Authority {
    /// A self-signed one.
    pub(super) fn new(name: &str, change: impl Fn(&mut CertificateParams)) -> Self {
        Self::with(name, KeyPair::generate().unwrap(), change)
    }

    pub(super) fn with(name: &str, key: KeyPair, change: impl Fn(&mut CertificateParams)) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let der = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Self { issuer, der }
    }

    /// One that this one vouches for.
    pub(super) fn below(&self, name: &str, change: impl Fn(&mut CertificateParams)) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        Self { issuer, der }
    }

    pub(super) fn leaf(
        &self,
        names: &[&str],
        change: impl Fn(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        self.leaf_and_key(names, change).0
    }

    pub(super) fn leaf_and_key(
        &self,
        names: &[&str],
        change: impl Fn(&mut CertificateParams),
    ) -> (CertificateDer<'static>, KeyPair) {
        let mut params = params("leaf", names);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        (signed.der().clone(), key)
    }

    /// A certificate that it signs again after its parts were changed.
    pub(super) fn again(
        &self,
        certificate: &CertificateDer<'_>,
        change: impl FnOnce(&mut Vec<Vec<u8>>),
    ) -> CertificateDer<'static> {
        again(certificate, self.key(), change)
    }

    /// Itself, changed.
    pub(super) fn changed(mut self, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Self {
        self.der = self.again(&self.der, change);
        self
    }

    /// Its name in DER.
    pub(super) fn subject(&self) -> Vec<u8> {
        let read = Certificate::read(&self.der).unwrap();
        tlv(0x30, read.subject_contents())
    }

    pub(super) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }
}

pub(super) fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

/// Version 1: neither version nor extensions.
pub(super) fn version_1(parts: &mut Vec<Vec<u8>>) {
    parts.retain(|p| p[0] != 0xa0 && p[0] != 0xa3);
}

pub(super) fn extension(oid: &[u64], critical: bool, content: &[u8]) -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
    extension.set_criticality(critical);
    extension
}

/// The parts of what is signed, changed, and signed by `key`.
fn again(
    certificate: &[u8],
    key: &KeyPair,
    change: impl FnOnce(&mut Vec<Vec<u8>>),
) -> CertificateDer<'static> {
    let outer = split(der::element(certificate, 0x30).unwrap().contents);
    let mut parts = split(der::element(&outer[0], 0x30).unwrap().contents);
    change(&mut parts);
    let algorithm = parts.iter().find(|p| p[0] == 0x30).unwrap().clone();
    let message = tlv(0x30, &parts.concat());
    let mut signature = vec![0];
    signature.extend(key.sign(&message).unwrap());
    let whole = [message, algorithm, tlv(0x03, &signature)].concat();
    tlv(0x30, &whole).into()
}

fn split(mut input: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while !input.is_empty() {
        let element = der::element(input, input[0]).unwrap();
        parts.push(element.whole.to_vec());
        input = element.rest;
    }
    parts
}

pub(super) fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut whole = vec![tag];
    match contents.len() {
        n @ 0..=0x7f => whole.push(u8::try_from(n).unwrap()),
        n => {
            let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
            match high {
                0 => whole.extend([0x81, low]),
                _ => whole.extend([0x82, high, low]),
            }
        }
    }
    whole.extend(contents);
    whole
}
