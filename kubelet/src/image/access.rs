//! Who may use an image that is already here: upstream's `pkg/kubelet/images/pullmanager`
//! (KEP-2535).
//!
//! A pod that could not have pulled a private image must not get it because another pod did.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::auth::{Credential, Source};
use super::reference::Reference;

/// A secret that opened a registry, and what it then held.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretUse {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    pub credential_hash: String,
}

/// As whom an image was pulled from one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Without credentials, or with the node's: every pod of the node could.
    pub everyone: bool,
    pub secrets: BTreeSet<SecretUse>,
}

/// Accesses by repository. None at all: the kubelet did not pull the image, it was brought here.
pub type Accesses = BTreeMap<String, Access>;

/// Secrets remembered for one repository of an image.
const SECRETS_MAX: usize = 100;

/// Whether images that are here are checked at all (`imagePullCredentialsVerificationPolicy`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    Never,
    /// All but those that the kubelet did not pull.
    #[default]
    NeverPreloaded,
    /// All but these repositories; one that ends in `/*` stands for all below it.
    NeverAllowlisted(Vec<String>),
    Always,
}

impl Access {
    /// Of a pull with this credential.
    pub fn of(credential: Option<&Credential>) -> Self {
        let mut access = Self::default();
        match credential.map(|credential| (credential, &credential.source)) {
            None | Some((_, Source::Node)) => access.everyone = true,
            Some((
                credential,
                Source::Secret {
                    uid,
                    namespace,
                    name,
                },
            )) => {
                access.secrets.insert(SecretUse {
                    uid: uid.clone(),
                    namespace: namespace.clone(),
                    name: name.clone(),
                    credential_hash: credential.hash(),
                });
            }
        }
        access
    }

    /// Adds what another pull found.
    pub fn merge(&mut self, other: Self) {
        self.everyone |= other.everyone;
        self.secrets.extend(other.secrets);
        while self.secrets.len() > SECRETS_MAX {
            self.secrets.pop_first();
        }
    }

    /// Whether a pod with these credentials may use what was pulled: the same secret did, or one
    /// with the same contents.
    fn admits(&self, credentials: &[Credential]) -> bool {
        self.everyone
            || credentials
                .iter()
                .flat_map(|c| Self::of(Some(c)).secrets)
                .any(|own| {
                    self.secrets.iter().any(|known| {
                        known.credential_hash == own.credential_hash
                            || (known.uid == own.uid
                                && known.namespace == own.namespace
                                && known.name == own.name)
                    })
                })
    }
}

impl Verification {
    /// Whether a pod has to show, by pulling it, that it may have an image that is here.
    pub fn must_pull(
        &self,
        reference: &Reference,
        accesses: &Accesses,
        credentials: &[Credential],
    ) -> bool {
        let repository = reference.repository();
        let verify = match self {
            Self::Never => false,
            Self::NeverPreloaded => !accesses.is_empty(),
            Self::NeverAllowlisted(list) => !list.iter().any(|pattern| {
                match pattern
                    .strip_suffix('*')
                    .filter(|prefix| prefix.ends_with('/'))
                {
                    Some(prefix) => repository.starts_with(prefix),
                    None => repository == *pattern,
                }
            }),
            Self::Always => true,
        };
        let admitted = || {
            accesses
                .get(&repository)
                .is_some_and(|a| a.admits(credentials))
        };
        verify && !admitted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(uid: &str, password: &str) -> Credential {
        let source = Source::Secret {
            uid: uid.into(),
            namespace: "ns".into(),
            name: "pull".into(),
        };
        Credential {
            username: "u".into(),
            password: password.into(),
            source,
        }
    }

    fn pulled_with(credential: Option<&Credential>) -> Accesses {
        [("quay.io/a/b".to_owned(), Access::of(credential))].into()
    }

    #[test]
    fn a_private_image_is_for_those_who_could_pull_it() {
        let reference: Reference = "quay.io/a/b:1".parse().unwrap();
        let other: Reference = "quay.io/a/c:1".parse().unwrap();
        let policy = Verification::default();
        let accesses = pulled_with(Some(&secret("1", "p")));
        let must_pull =
            |credentials: &[Credential]| policy.must_pull(&reference, &accesses, credentials);
        assert!(must_pull(&[]));
        assert!(must_pull(&[secret("2", "q")]));
        // The same secret after a change, and another with the same contents.
        assert!(!must_pull(&[secret("1", "new")]));
        assert!(!must_pull(&[secret("2", "q"), secret("3", "p")]));
        // The same image under another name is another question.
        assert!(policy.must_pull(&other, &accesses, &[secret("1", "p")]));
        // Public, or of the node.
        assert!(!policy.must_pull(&reference, &pulled_with(None), &[]));
    }

    #[test]
    fn what_was_brought_here_is_for_everybody_unless_the_policy_is_strict() {
        let reference: Reference = "quay.io/a/b:1".parse().unwrap();
        let brought = Accesses::new();
        let must_pull = |policy: Verification| policy.must_pull(&reference, &brought, &[]);
        assert!(!must_pull(Verification::Never));
        assert!(!must_pull(Verification::NeverPreloaded));
        assert!(must_pull(Verification::Always));
        let listed = |pattern: &str| Verification::NeverAllowlisted(vec![pattern.into()]);
        assert!(!must_pull(listed("quay.io/a/*")));
        assert!(!must_pull(listed("quay.io/a/b")));
        assert!(must_pull(listed("quay.io/a")));
    }
}
