//! Tokens of service accounts that never expire, for those who still ask for secrets with them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::{Value, json};

use crate::keys::{Algorithm, KeyError, SigningKey};

/// Who signed it, as all such tokens say.
const ISSUER: &str = "kubernetes/serviceaccount";

/// The signed token (RFC 7515, compact) of an account, for a secret.
///
/// # Errors
/// If the key does not sign.
pub(super) fn token(
    key: &SigningKey,
    account: &ServiceAccount,
    secret: &Secret,
) -> Result<String, KeyError> {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({"alg": algorithm(key.algorithm()), "kid": id(key)});
    let text = format!("{}.{}", encode(&header), encode(&claims(account, secret)));
    let signature = key.sign(text.as_bytes())?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn algorithm(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Rsa => "RS256",
        Algorithm::P256 => "ES256",
        Algorithm::P384 => "ES384",
    }
}

/// What verifiers know the key by: the digest of its public part.
fn id(key: &SigningKey) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, &key.public());
    URL_SAFE_NO_PAD.encode(digest.as_ref())
}

fn claims(account: &ServiceAccount, secret: &Secret) -> Value {
    let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
    let name = account.metadata.name.as_deref().unwrap_or_default();
    json!({
        "iss": ISSUER,
        "kubernetes.io/serviceaccount/namespace": namespace,
        "kubernetes.io/serviceaccount/secret.name": secret.metadata.name,
        "kubernetes.io/serviceaccount/service-account.name": name,
        "kubernetes.io/serviceaccount/service-account.uid": account.metadata.uid,
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Form;
    use rcgen::PublicKeyData;
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    #[test]
    fn a_token_names_account_and_secret_and_is_signed() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = SigningKey::read(pair.serialize_pem().as_bytes(), Form::Fixed).unwrap();
        let account = json!({"metadata": {"name": "a", "namespace": "ns", "uid": "u"}});
        let secret = json!({"metadata": {"name": "s", "namespace": "ns"}});
        let text = token(
            &key,
            &proto::typed::from_json_value(account).unwrap(),
            &proto::typed::from_json_value(secret).unwrap(),
        )
        .unwrap();
        let (signed, signature) = text.rsplit_once('.').unwrap();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.der_bytes())
            .verify(
                signed.as_bytes(),
                &URL_SAFE_NO_PAD.decode(signature).unwrap(),
            )
            .unwrap();
        let body = URL_SAFE_NO_PAD
            .decode(signed.split_once('.').unwrap().1)
            .unwrap();
        let claims: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(claims["sub"], "system:serviceaccount:ns:a");
        assert_eq!(claims["kubernetes.io/serviceaccount/secret.name"], "s");
        assert!(claims.get("exp").is_none());
    }
}
