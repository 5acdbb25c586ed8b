//! What a certificate request in PKCS #10 asks for, and which requests are a kubelet's.

use std::collections::BTreeSet;
use std::net::IpAddr;

use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::{self, PemObject};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

/// The user name of a node begins so.
const NODE: &str = "system:node:";
/// The group of all nodes.
const NODES: &str = "system:nodes";

/// Why a request is no request.
#[derive(thiserror::Error, Debug)]
pub enum RequestError {
    #[error("the request is not PEM of the type CERTIFICATE REQUEST")]
    Pem(#[source] pem::Error),
    #[error("the request cannot be read: {0}")]
    Syntax(String),
    #[error("the request's own signature is wrong")]
    Signature,
}

/// A request, as far as it matters here.
#[derive(PartialEq, Eq, Default, Debug)]
pub struct Request {
    /// The subject in DER.
    pub subject: Vec<u8>,
    pub common_name: String,
    pub organizations: Vec<String>,
    /// The subject public key info in DER.
    pub key: Vec<u8>,
    pub dns: Vec<String>,
    pub emails: Vec<String>,
    pub ips: Vec<IpAddr>,
    pub uris: Vec<String>,
}

impl Request {
    /// Reads a request in PEM and checks that who made it has the key.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(text: &[u8]) -> Result<Self, RequestError> {
        let der = CertificateSigningRequestDer::from_pem_slice(text).map_err(RequestError::Pem)?;
        let syntax = |e: &dyn std::fmt::Display| RequestError::Syntax(e.to_string());
        let (_, request) = X509CertificationRequest::from_der(&der).map_err(|e| syntax(&e))?;
        request
            .verify_signature()
            .map_err(|_| RequestError::Signature)?;
        let info = &request.certification_request_info;
        let mut read = Self {
            subject: info.subject.as_raw().to_vec(),
            common_name: all(&info.subject, X509Name::iter_common_name)
                .pop()
                .unwrap_or_default(),
            organizations: all(&info.subject, X509Name::iter_organization),
            key: info.subject_pki.raw.to_vec(),
            ..Self::default()
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                for name in &names.general_names {
                    read.add(name);
                }
            }
        }
        Ok(read)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
            GeneralName::URI(name) => self.uris.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let ip = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                self.ips.extend(ip);
            }
            _ => {}
        }
    }

    /// Why this is not the request of a kubelet for its client certificate.
    ///
    /// # Errors
    /// The reason, in upstream's words.
    pub fn is_kubelet_client(&self, usages: &[String]) -> Result<(), String> {
        self.is_of_nodes()?;
        for (names, what) in [
            (self.dns.is_empty(), "DNS"),
            (self.emails.is_empty(), "Email"),
            (self.ips.is_empty(), "IP"),
            (self.uris.is_empty(), "URI"),
        ] {
            if !names {
                return Err(format!("{what} subjectAltNames are not allowed"));
            }
        }
        self.is_named_as_node()?;
        has_usages(usages, "client auth")
    }

    /// Why this is not the request of a kubelet for its serving certificate.
    ///
    /// # Errors
    /// The reason, in upstream's words.
    pub fn is_kubelet_serving(&self, usages: &[String]) -> Result<(), String> {
        self.is_of_nodes()?;
        if self.dns.is_empty() && self.ips.is_empty() {
            return Err("DNS or IP subjectAltName is required".to_owned());
        }
        if !self.emails.is_empty() {
            return Err("Email subjectAltNames are not allowed".to_owned());
        }
        if !self.uris.is_empty() {
            return Err("URI subjectAltNames are not allowed".to_owned());
        }
        has_usages(usages, "server auth")?;
        self.is_named_as_node()
    }

    fn is_of_nodes(&self) -> Result<(), String> {
        let right = self.organizations == [NODES];
        right
            .then_some(())
            .ok_or_else(|| "subject organization is not system:nodes".to_owned())
    }

    fn is_named_as_node(&self) -> Result<(), String> {
        let right = self.common_name.starts_with(NODE);
        right
            .then_some(())
            .ok_or_else(|| "subject common name does not begin with system:node:".to_owned())
    }
}

fn all<'n, I>(name: &'n X509Name<'n>, part: impl Fn(&'n X509Name<'n>) -> I) -> Vec<String>
where
    I: Iterator<Item = &'n x509_parser::x509::AttributeTypeAndValue<'n>>,
{
    let texts = part(name).filter_map(|value| value.as_str().ok());
    texts.map(str::to_owned).collect()
}

/// Whether exactly these usages are asked for; keys of elliptic curves encipher no keys.
fn has_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    const SIGN: &str = "digital signature";
    const ENCIPHER: &str = "key encipherment";
    let given: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let few = BTreeSet::from([SIGN, purpose]);
    let many = BTreeSet::from([SIGN, ENCIPHER, purpose]);
    if given == few || given == many {
        return Ok(());
    }
    let wanted: Vec<&str> = many.into_iter().collect();
    Err(format!("usages did not match [{}]", wanted.join(" ")))
}

/// Whether the usages are those of a client of the API server.
///
/// # Errors
/// The first usage that is not, in upstream's words.
pub fn are_client_usages(usages: &[String]) -> Result<(), String> {
    const ALLOWED: [&str; 3] = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|u| !ALLOWED.contains(&u.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if usages.iter().any(|u| u == "client auth") {
        Ok(())
    } else {
        Err("missing required usage for client certificate: client auth".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usages(all: &[&str]) -> Vec<String> {
        all.iter().map(|u| (*u).to_owned()).collect()
    }

    fn kubelet() -> Request {
        Request {
            common_name: "system:node:n".to_owned(),
            organizations: vec![NODES.to_owned()],
            ..Request::default()
        }
    }

    #[test]
    fn a_kubelets_client_certificate_has_no_other_names() {
        let client = usages(&["digital signature", "client auth"]);
        assert_eq!(kubelet().is_kubelet_client(&client), Ok(()));
        let named = Request {
            dns: vec!["n".to_owned()],
            ..kubelet()
        };
        assert_eq!(
            named.is_kubelet_client(&client).unwrap_err(),
            "DNS subjectAltNames are not allowed"
        );
        let user = Request {
            common_name: "jane".to_owned(),
            ..kubelet()
        };
        assert!(
            user.is_kubelet_client(&client)
                .unwrap_err()
                .contains("system:node:")
        );
        let more = usages(&["digital signature", "client auth", "server auth"]);
        assert_eq!(
            kubelet().is_kubelet_client(&more).unwrap_err(),
            "usages did not match [client auth digital signature key encipherment]"
        );
    }

    #[test]
    fn a_kubelets_serving_certificate_names_the_node() {
        let serving = usages(&["digital signature", "key encipherment", "server auth"]);
        assert!(kubelet().is_kubelet_serving(&serving).is_err());
        let named = Request {
            ips: vec![[10, 0, 0, 1].into()],
            ..kubelet()
        };
        assert_eq!(named.is_kubelet_serving(&serving), Ok(()));
    }

    #[test]
    fn clients_of_the_api_server_only_authenticate() {
        assert_eq!(
            are_client_usages(&usages(&["client auth", "digital signature"])),
            Ok(())
        );
        assert!(are_client_usages(&usages(&["digital signature"])).is_err());
        assert!(are_client_usages(&usages(&["client auth", "server auth"])).is_err());
    }
}
