//! The file: `EncryptionConfiguration`, checked as upstream checks it
//! (`apiserver/pkg/apis/apiserver/validation`), and what is made of it.

use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use component::config::Versioned;
use proto::path::{FieldError, Reason};
use serde::Deserialize;
use serde_json::Value;

use self::kms::KmsConfiguration;
use super::choice::{Choice, Identity, Layer, Marked};
use super::kms::{Kms, KmsMetrics, PREFIX, Plugin, Provider, Settings, v1};
use super::{Error, GroupResource, Rules, cipher};

mod kms;

/// Go's decoder, which does not mind bits after the last byte.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

#[derive(Deserialize, Default)]
#[serde(default)]
pub(crate) struct EncryptionConfiguration {
    resources: Vec<ResourceConfiguration>,
}

impl Versioned for EncryptionConfiguration {
    const API_VERSIONS: &'static [&'static str] = &["apiserver.config.k8s.io/v1"];
    const KIND: &'static str = "EncryptionConfiguration";
}

/// The same under a name that upstream's documentation gave it once by mistake.
#[derive(Deserialize)]
#[serde(transparent)]
struct EncryptionConfig(EncryptionConfiguration);

impl Versioned for EncryptionConfig {
    const API_VERSIONS: &'static [&'static str] = &["v1"];
    const KIND: &'static str = "EncryptionConfig";
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResourceConfiguration {
    resources: Vec<String>,
    providers: Vec<ProviderConfiguration>,
}

/// Exactly one of them.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ProviderConfiguration {
    aesgcm: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
    identity: Option<NoSettings>,
    kms: Option<KmsConfiguration>,
}

#[derive(Deserialize)]
struct NoSettings {}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Keys {
    keys: Vec<Key>,
}

// No `Debug`: the secret must not come into a log.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Key {
    name: String,
    /// In base64.
    secret: String,
}

/// What a provider with keys is.
struct Cipher {
    name: &'static str,
    prefix: &'static str,
    /// Lengths of keys, in bytes.
    key_sizes: &'static [usize],
    with_key: fn(&[u8]) -> Option<Box<dyn Layer>>,
    no_such_key: &'static str,
}

const AES_KEYS: &[usize] = &[16, 24, 32];
const NO_SUCH_AES_KEY: &str = "no matching key was found for the provided AES transformer";

const AESGCM: Cipher = Cipher {
    name: "aesgcm",
    prefix: "k8s:enc:aesgcm:v1:",
    key_sizes: AES_KEYS,
    with_key: cipher::aes_gcm,
    no_such_key: NO_SUCH_AES_KEY,
};
const AESCBC: Cipher = Cipher {
    name: "aescbc",
    prefix: "k8s:enc:aescbc:v1:",
    key_sizes: AES_KEYS,
    with_key: cipher::aes_cbc,
    no_such_key: NO_SUCH_AES_KEY,
};
const SECRETBOX: Cipher = Cipher {
    name: "secretbox",
    prefix: "k8s:enc:secretbox:v1:",
    key_sizes: &[32],
    with_key: cipher::secretbox,
    no_such_key: "no matching key was found for the provided Secretbox transformer",
};

/// What is made of a file beside what it says.
pub(super) struct Means {
    pub(super) kms: KmsMetrics,
    /// Whether the gate of the first version of key management services is open.
    pub(super) kms_v1: bool,
}

/// The rules that a file makes.
pub(super) fn read(text: &str, means: &Means) -> Result<Rules, Error> {
    let text = text.as_bytes();
    let config = component::config::read::<EncryptionConfiguration>(text).or_else(|e| {
        let legacy = component::config::read::<EncryptionConfig>(text);
        legacy.map(|legacy| legacy.0).map_err(|_| e)
    })?;
    Reader {
        means,
        errors: Vec::new(),
        unused: None,
        names: Vec::new(),
        plugins: Vec::new(),
    }
    .rules(&config)
}

/// What was found while a file is read.
struct Reader<'a> {
    means: &'a Means,
    errors: Vec<FieldError>,
    /// Why a service that nothing is wrong with is not used.
    unused: Option<&'static str>,
    /// Of key management services.
    names: Vec<String>,
    plugins: Vec<Plugin>,
}

impl Reader<'_> {
    /// The rules, or all that is wrong.
    fn rules(mut self, config: &EncryptionConfiguration) -> Result<Rules, Error> {
        let mut entries = Vec::new();
        if config.resources.is_empty() {
            self.errors.push(at_least_one("resources", "resources"));
        }
        for (i, of) in config.resources.iter().enumerate() {
            let resources = format!("resources[{i}].resources");
            let providers = format!("resources[{i}].providers");
            self.check_names(&of.resources, &resources);
            if of.providers.is_empty() {
                self.errors.push(at_least_one(&providers, &providers));
            }
            let providers: Vec<_> = { of.providers.iter().enumerate() }
                .filter_map(|(j, p)| self.provider(p, &format!("{providers}[{j}]")))
                .collect();
            let named = of.resources.iter().enumerate();
            entries.extend(
                named.map(|(j, text)| (format!("{resources}[{j}]"), text, providers.clone())),
            );
        }
        if !self.errors.is_empty() {
            return Err(Error::Invalid(self.errors));
        }
        if let Some(why) = self.unused {
            return Err(Error::Unused(why));
        }
        let mut rules = Rules {
            plugins: self.plugins,
            ..Rules::default()
        };
        for (at, text, providers) in entries {
            rules
                .add(text, &at, &providers)
                .map_err(|e| Error::Invalid(vec![e]))?;
        }
        Ok(rules)
    }

    fn check_names(&mut self, resources: &[String], at: &str) {
        if resources.is_empty() {
            self.errors.push(at_least_one(at, at));
        }
        overlaps(resources, at, &mut self.errors);
        for (j, text) in resources.iter().enumerate() {
            let refused = refused_name(text);
            let error =
                refused.map(|why| FieldError::invalid(format!("{at}[{j}]"), text.as_str(), why));
            self.errors.extend(error);
        }
    }

    /// The provider of an element of the list; none if something is wrong with it.
    fn provider(&mut self, of: &ProviderConfiguration, at: &str) -> Option<Marked> {
        let ciphers = [
            (&of.aesgcm, &AESGCM),
            (&of.aescbc, &AESCBC),
            (&of.secretbox, &SECRETBOX),
        ];
        let given = ciphers.iter().filter(|(keys, _)| keys.is_some()).count()
            + usize::from(of.identity.is_some())
            + usize::from(of.kms.is_some());
        if given != 1 {
            let why = if given == 0 {
                "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, \
                 Secretbox, Identity"
            } else {
                "more than one provider specified in a single element, should split into different \
                 list elements"
            };
            // The value is not shown: it may hold secrets.
            let error = FieldError::new(Reason::Invalid, at, String::new(), why);
            self.errors.push(error);
            return None;
        }
        if let Some(kms) = &of.kms {
            let at = format!("{at}.kms");
            let settings = kms.settings(&at, &mut self.names, &mut self.errors)?;
            if let Some(why) = kms.unused(self.means.kms_v1) {
                self.unused.get_or_insert(why);
                return None;
            }
            return Some(self.service(kms.is_v1(), settings));
        }
        for (keys, cipher) in ciphers {
            if let Some(keys) = keys {
                let at = format!("{at}.{}.keys", cipher.name);
                return cipher.provider(&keys.keys, &at, &mut self.errors);
            }
        }
        Some(Marked::new("", Identity))
    }
}

impl Reader<'_> {
    fn service(&mut self, v1: bool, settings: Settings) -> Marked {
        let name = settings.name.clone();
        if v1 {
            tracing::warn!(
                service = name,
                "KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead."
            );
            let provider = v1::Provider::new(settings, &self.means.kms);
            self.plugins.push(Plugin::V1(Arc::clone(&provider)));
            return Marked::new(&format!("{}{name}:", v1::PREFIX), v1::Kms(provider));
        }
        let provider = Provider::new(settings, &self.means.kms);
        self.plugins.push(Plugin::V2(Arc::clone(&provider)));
        Marked::new(&format!("{PREFIX}{name}:"), Kms(provider))
    }
}

impl Rules {
    /// Adds providers for a resource, after those that it has.
    fn add(&mut self, text: &str, at: &str, providers: &[Marked]) -> Result<(), FieldError> {
        let resource = GroupResource::parse(text);
        let earlier = [resource.group.as_str(), "*"]
            .into_iter()
            .find_map(|group| {
                let all = |of: &&GroupResource| of.is(group, "*");
                self.of.iter().map(|(of, _)| of).find(all)
            });
        if let Some(earlier) = earlier {
            let said = format!("resource \"{resource}\" is masked by earlier rule \"{earlier}\"");
            return Err(FieldError::invalid(at, text, said));
        }
        match self.of.iter_mut().find(|(of, _)| *of == resource) {
            Some((_, choice)) => choice.of.extend_from_slice(providers),
            None => self.of.push((
                resource,
                Choice {
                    of: providers.to_vec(),
                    none: "no matching prefix found",
                },
            )),
        }
        Ok(())
    }
}

fn at_least_one(at: &str, what: &str) -> FieldError {
    FieldError::required(at, format!("at least one {what} is required"))
}

/// A list must not name a resource twice, by itself or by a wildcard.
fn overlaps(resources: &[String], at: &str, errors: &mut Vec<FieldError>) {
    let parsed: Vec<_> = resources.iter().map(|r| GroupResource::parse(r)).collect();
    let some_pair = |is: fn(&GroupResource, &GroupResource) -> bool| {
        let mut all = parsed.iter().enumerate();
        all.any(|(i, a)| { parsed.iter().enumerate() }.any(|(j, b)| i != j && is(a, b)))
    };
    let mut refuse = |why| {
        let shown = Value::from(resources).to_string();
        errors.push(FieldError::new(Reason::Invalid, at, shown, why));
    };
    if some_pair(|a, b| a == b) {
        refuse("the same resource cannot be specified multiple times");
    }
    if some_pair(|a, b| a.is("*", "*") || a.is(&b.group, "*")) {
        refuse(
            "using overlapping resources such as 'secrets' and '*.' in the same resource list is not \
             allowed as they will be masked",
        );
    }
}

/// What is wrong with the name of a resource, if anything is.
fn refused_name(text: &str) -> Option<&'static str> {
    let of = GroupResource::parse(text);
    Some(match (text, of.group.as_str()) {
        _ if text.to_lowercase() != text => "resource name should not contain capital letters",
        ("*", _) => {
            "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
        }
        ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", _) => {
            "resources which do not have REST API/s cannot be encrypted"
        }
        (_, "events.k8s.io") => {
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' \
             instead in the config file"
        }
        (_, "extensions") => {
            "'extensions' group has been removed and cannot be used for encryption"
        }
        (_, "*") if of.resource != "*" => {
            "encrypting the same resource across groups is not supported"
        }
        _ => return None,
    })
}

impl Cipher {
    fn provider(&self, keys: &[Key], at: &str, errors: &mut Vec<FieldError>) -> Option<Marked> {
        if keys.is_empty() {
            errors.push(at_least_one(at, "keys"));
            return None;
        }
        let mut layers = Vec::with_capacity(keys.len());
        for (i, key) in keys.iter().enumerate() {
            let at = format!("{at}[{i}]");
            if key.name.is_empty() {
                let why = "name is a mandatory field for a key";
                errors.push(FieldError::required(format!("{at}.name"), why));
            }
            match self.layer(key, &format!("{at}.secret")) {
                Ok(layer) => layers.push(Marked::new(&format!("{}:", key.name), layer)),
                Err(error) => errors.push(error),
            }
        }
        let none = self.no_such_key;
        Some(Marked::new(self.prefix, Choice { of: layers, none }))
    }

    /// What a key opens and seals.
    fn layer(&self, key: &Key, at: &str) -> Result<Box<dyn Layer>, FieldError> {
        if key.secret.is_empty() {
            let why = "secret is a mandatory field for a key";
            return Err(FieldError::required(at, why));
        }
        // Go's decoder passes over line ends.
        let text: String = { key.secret.chars() }
            .filter(|c| !matches!(c, '\r' | '\n'))
            .collect();
        let Ok(secret) = BASE64.decode(text) else {
            let why = "secrets must be base64 encoded";
            return Err(FieldError::invalid(at, "REDACTED", why));
        };
        (self.with_key)(&secret).ok_or_else(|| {
            let sizes: Vec<_> = self.key_sizes.iter().map(ToString::to_string).collect();
            let why = format!(
                "secret is not of the expected length, got {}, expected one of [{}]",
                secret.len(),
                sizes.join(" ")
            );
            FieldError::invalid(at, "REDACTED", why)
        })
    }
}

#[cfg(test)]
mod tests;
