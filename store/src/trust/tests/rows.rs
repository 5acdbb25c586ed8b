//! What people show, and what is said to it.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CidrSubnet, ExtendedKeyUsagePurpose as Purpose, GeneralSubtree, IsCa,
    KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::make::{Authority, extension, params, tlv, version_1};
use crate::trust::Usage;

type Der = CertificateDer<'static>;

/// A chain, who is trusted, and what Go says.
pub(super) struct Row {
    pub(super) what: &'static str,
    pub(super) chain: Vec<Der>,
    pub(super) roots: Vec<Der>,
    pub(super) usage: Usage,
    /// Empty if it does not matter.
    pub(super) host: &'static str,
    /// Empty if it is believed.
    pub(super) want: &'static str,
    /// Whether webpki believes it.
    pub(super) webpki: bool,
}

const WEB: &str = "web.test";
const UNKNOWN: &str = "x509: certificate signed by unknown authority";
const USAGE: &str = "x509: certificate specifies an incompatible key usage";
const CRITICAL: &str = "x509: unhandled critical extension";

/// A server's chain that is shown for `web.test`.
fn server(what: &'static str, chain: &[&Der], root: &Der) -> Row {
    Row {
        what,
        chain: chain.iter().map(|c| (*c).clone()).collect(),
        roots: vec![root.clone()],
        usage: Usage::Server,
        host: WEB,
        want: "",
        webpki: true,
    }
}

impl Row {
    fn client(mut self) -> Self {
        (self.usage, self.host) = (Usage::Client, "");
        self
    }

    fn at(mut self, host: &'static str) -> Self {
        self.host = host;
        self
    }

    fn refused(mut self, want: &'static str) -> Self {
        (self.want, self.webpki) = (want, false);
        self
    }

    /// Where webpki judges otherwise.
    fn unlike_webpki(mut self) -> Self {
        self.webpki = !self.want.is_empty();
        self
    }
}

pub(super) fn all() -> Vec<Row> {
    let all = [
        ordinary(),
        authorities_as_leaves(),
        versions(),
        usages(),
        hosts(),
        addresses(),
        constraints(),
        other_constraints(),
        roots(),
        intermediates(),
        times(),
        oddities(),
        algorithms(),
        searches(),
    ];
    all.into_iter().flatten().collect()
}

fn ordinary() -> Vec<Row> {
    let ca = Authority::new("ca", |_| {});
    let other = Authority::new("ca", |_| {});
    let stranger = Authority::new("stranger", |_| {});
    let leaf = ca.leaf(&[WEB], |_| {});
    let between = ca.below("between", |_| {});
    let below = between.leaf(&[WEB], |_| {});
    vec![
        server("an ordinary one", &[&leaf], &ca.der),
        server("one for clients", &[&leaf], &ca.der).client(),
        server("through another", &[&below, &between.der], &ca.der),
        server("signed by a stranger", &[&leaf], &stranger.der).refused(UNKNOWN),
        server("signed by a namesake", &[&leaf], &other.der).refused(
            "x509: certificate signed by unknown authority (possibly because of \"x509: ECDSA verification failure\" while trying to verify candidate authority certificate \"ca\")",
        ),
        server("without the one between", &[&below], &ca.der).refused(UNKNOWN),
    ]
}

fn authorities_as_leaves() -> Vec<Row> {
    let named = |p: &mut rcgen::CertificateParams| {
        p.subject_alt_names = params("", &[WEB]).subject_alt_names;
    };
    let ca = Authority::new("ca", |_| {});
    let own = Authority::new(WEB, named);
    let signed = ca.below("server", named);
    let plain = Authority::new("plain", |p| {
        named(p);
        p.is_ca = IsCa::NoCa;
    });
    let trusted = ca.leaf(&[WEB], |_| {});
    let only_clients = ca.leaf(&[WEB], |p| {
        p.extended_key_usages = vec![Purpose::ClientAuth];
    });
    vec![
        server("openssl req -x509", &[&own.der], &own.der).unlike_webpki(),
        server("openssl req -x509, a client's", &[&own.der], &own.der)
            .client()
            .unlike_webpki(),
        server("an authority by another", &[&signed.der], &ca.der).unlike_webpki(),
        server("an authority nobody trusts", &[&own.der], &ca.der).refused(UNKNOWN),
        server("self-signed, no authority", &[&plain.der], &plain.der),
        server(
            "trusted itself, signed by a stranger",
            &[&trusted],
            &trusted,
        )
        .unlike_webpki(),
        server(
            "trusted itself, for clients only",
            &[&only_clients],
            &only_clients,
        )
        .refused(USAGE),
        server("trusted itself, elsewhere", &[&trusted], &trusted)
            .at("else.test")
            .refused("x509: certificate is valid for web.test, not else.test"),
    ]
}

fn versions() -> Vec<Row> {
    let ca = Authority::new("ca", |_| {});
    let old = ca.again(&ca.leaf(&[], |_| {}), version_1);
    let old_server = ca.again(&ca.leaf(&[WEB], |_| {}), version_1);
    let old_ca = Authority::new("old", |_| {}).changed(version_1);
    let by_old = old_ca.leaf(&[WEB], |_| {});
    let between = ca.below("between", |_| {});
    let by_between = between.leaf(&[WEB], |_| {});
    let old_between = ca.again(&between.der, version_1);
    vec![
        server("version 1, a client's", &[&old], &ca.der)
            .client()
            .unlike_webpki(),
        server("version 1, a server's", &[&old_server], &ca.der)
            .refused("x509: certificate is not valid for any names, but wanted to match web.test"),
        server("version 1, trusted", &[&by_old], &old_ca.der),
        server("version 1, between", &[&by_between, &old_between], &ca.der)
            .refused("x509: certificate is not authorized to sign other certificates"),
    ]
}

fn usages() -> Vec<Row> {
    let ca = Authority::new("ca", |_| {});
    let of = |purposes: &[Purpose]| ca.leaf(&[WEB], |p| p.extended_key_usages = purposes.to_vec());
    let empty = ca.leaf(&[WEB], |p| {
        p.custom_extensions = vec![extension(&[2, 5, 29, 37], false, &[0x30, 0])];
    });
    let only_clients = |p: &mut rcgen::CertificateParams| {
        p.extended_key_usages = vec![Purpose::ClientAuth];
    };
    let narrow = Authority::new("narrow", only_clients);
    let by_narrow = narrow.leaf(&[WEB], |_| {});
    let between = ca.below("between", only_clients);
    let by_between = between.leaf(&[WEB], |_| {});
    vec![
        server("for servers", &[&of(&[Purpose::ServerAuth])], &ca.der),
        server("for clients only", &[&of(&[Purpose::ClientAuth])], &ca.der).refused(USAGE),
        server("for servers only", &[&of(&[Purpose::ServerAuth])], &ca.der)
            .client()
            .refused(USAGE),
        server("for code only", &[&of(&[Purpose::CodeSigning])], &ca.der).refused(USAGE),
        server("for anything", &[&of(&[Purpose::Any])], &ca.der).unlike_webpki(),
        server("for nothing in particular", &[&empty], &ca.der).unlike_webpki(),
        server("trusted for clients only", &[&by_narrow], &narrow.der)
            .refused(USAGE)
            .unlike_webpki(),
        server(
            "between, for clients only",
            &[&by_between, &between.der],
            &ca.der,
        )
        .refused(USAGE),
        server(
            "between and client, for clients",
            &[&by_between, &between.der],
            &ca.der,
        )
        .client(),
    ]
}

fn hosts() -> Vec<Row> {
    let ca = Authority::new("ca", |_| {});
    let row = |what, name: &str, host| server(what, &[&ca.leaf(&[name], |_| {})], &ca.der).at(host);
    let common = ca.leaf(&[], |p| {
        p.distinguished_name.push(rcgen::DnType::CommonName, WEB);
    });
    let nameless = ca.leaf(&[], |_| {});
    vec![
        server("a common name only", &[&common], &ca.der)
            .refused("x509: certificate relies on legacy Common Name field, use SANs instead"),
        server("no name", &[&nameless], &ca.der)
            .refused("x509: certificate is not valid for any names, but wanted to match web.test"),
        row("upper case", "Web.TEST", WEB),
        row("an underscore", "a_b.test", "a_b.test"),
        row("a dot at the host's end", WEB, "web.test."),
        row("a dot at both ends", "web.test.", "web.test.").unlike_webpki(),
        row("a dot at the name's end", "web.test.", WEB)
            .refused("x509: certificate is valid for web.test., not web.test"),
        row("a wildcard", "*.web.test", "a.web.test"),
        row("a wildcard over two labels", "*.web.test", "a.b.web.test")
            .refused("x509: certificate is valid for *.web.test, not a.b.web.test"),
        row("a wildcard over nothing", "*.web.test", WEB)
            .refused("x509: certificate is valid for *.web.test, not web.test"),
        row("a wildcard under one label", "*.svc", "api.svc").unlike_webpki(),
        row("a bare wildcard", "*", "web").refused("x509: certificate is valid for *, not web"),
        row("half a wildcard", "w*.test", WEB)
            .refused("x509: certificate is valid for w*.test, not web.test"),
        row("a wildcard behind", "a.*.test", "a.b.test")
            .refused("x509: certificate is valid for a.*.test, not a.b.test"),
    ]
}

fn addresses() -> Vec<Row> {
    let ca = Authority::new("ca", |_| {});
    let leaf = ca.leaf(&[WEB, "10.0.0.1", "fd00::1"], |_| {});
    let only_name = ca.leaf(&[WEB], |_| {});
    let as_name = ca.leaf(&[], |p| {
        p.subject_alt_names = vec![SanType::DnsName("10.0.0.1".try_into().unwrap())];
    });
    let row = |what, leaf: &Der, host| server(what, &[leaf], &ca.der).at(host);
    vec![
        row("an address", &leaf, "10.0.0.1"),
        row("a longer address", &leaf, "fd00::1"),
        row("another address", &leaf, "10.0.0.2")
            .refused("x509: certificate is valid for 10.0.0.1, fd00::1, not 10.0.0.2"),
        row("no address", &only_name, "10.0.0.1").refused(
            "x509: cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs",
        ),
        row("an address as a name", &as_name, "10.0.0.1").refused(
            "x509: cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs",
        ),
    ]
}

fn constrained(permitted: Vec<GeneralSubtree>, excluded: Vec<GeneralSubtree>) -> Authority {
    Authority::new("ca", |p| {
        p.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted.clone(),
            excluded_subtrees: excluded.clone(),
        });
    })
}

fn constraints() -> Vec<Row> {
    let dns = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let ten = CidrSubnet::from_addr_prefix(IpAddr::from([10, 0, 0, 0]), 8);
    let test = constrained(vec![dns("test")], vec![]);
    let below_web = constrained(vec![dns(".web.test")], vec![]);
    let not_web = constrained(vec![], vec![dns(WEB)]);
    let not_a = constrained(vec![], vec![dns("a.web.test")]);
    let network = constrained(vec![GeneralSubtree::IpAddress(ten)], vec![]);
    let between = test.below("between", |_| {});
    let by_between = between.leaf(&["web.other"], |_| {});
    let row = |what, ca: &Authority, names: &[&str], host| {
        server(what, &[&ca.leaf(names, |_| {})], &ca.der).at(host)
    };
    vec![
        row("in the domain", &test, &[WEB], WEB),
        row("one name beside the domain", &test, &[WEB, "web.other"], WEB).refused(
            "x509: a root or intermediate certificate is not authorized to sign for this name: DNS name \"web.other\" is not permitted by any constraint",
        ),
        server("beside the domain, below", &[&by_between, &between.der], &test.der)
            .at("web.other")
            .refused("x509: a root or intermediate certificate is not authorized to sign for this name: DNS name \"web.other\" is not permitted by any constraint"),
        row("below a domain", &below_web, &["a.web.test"], "a.web.test"),
        row("the domain itself", &below_web, &[WEB], WEB).refused(
            "x509: a root or intermediate certificate is not authorized to sign for this name: DNS name \"web.test\" is not permitted by any constraint",
        ),
        row("excluded", &not_web, &["a.web.test"], "a.web.test").refused(
            "x509: a root or intermediate certificate is not authorized to sign for this name: DNS name \"a.web.test\" is excluded by constraint \"web.test\"",
        ),
        row("not excluded", &not_web, &["xweb.test"], "xweb.test"),
        row("a wildcard for what is excluded", &not_a, &["*.web.test"], "b.web.test").refused(
            "x509: a root or intermediate certificate is not authorized to sign for this name: DNS name \"*.web.test\" is excluded by constraint \"a.web.test\"",
        ),
        row("a wildcard in the domain", &test, &["*.web.test"], "a.web.test"),
        row("in the network", &network, &["10.1.2.3"], "10.1.2.3"),
        row("beside the network", &network, &["11.1.2.3"], "11.1.2.3").refused(
            "x509: a root or intermediate certificate is not authorized to sign for this name: IP address \"11.1.2.3\" is not permitted by any constraint",
        ),
        row("of another family", &network, &["fd00::1"], "fd00::1").refused(
            "x509: a root or intermediate certificate is not authorized to sign for this name: IP address \"fd00::1\" is not permitted by any constraint",
        ),
    ]
}

fn other_constraints() -> Vec<Row> {
    let dns = |name: &str| GeneralSubtree::DnsName(name.to_owned());
    let mail = |name: &str| GeneralSubtree::Rfc822Name(name.to_owned());
    let test = constrained(vec![dns("test")], vec![]);
    let mails = constrained(vec![mail("test")], vec![]);
    let one = constrained(vec![mail("me@web.test")], vec![]);
    let not_mails = constrained(vec![], vec![mail("test")]);
    let subject = params("x", &[]).distinguished_name;
    let directory = constrained(vec![GeneralSubtree::DirectoryName(subject)], vec![]);
    // permitted: [6] "test"; not critical.
    let uris = Authority::new("ca", |p| {
        let tree = tlv(0xa0, &tlv(0x30, &tlv(0x86, b"test")));
        p.custom_extensions = vec![extension(&[2, 5, 29, 30], false, &tlv(0x30, &tree))];
    });
    let with =
        |ca: &Authority, name: SanType| ca.leaf(&[WEB], |p| p.subject_alt_names.push(name.clone()));
    let mailbox = |text: &str| SanType::Rfc822Name(text.try_into().unwrap());
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let row = |what, ca: &Authority, name| server(what, &[&with(ca, name)], &ca.der);
    vec![
        row("a mailbox in the domain", &mails, mailbox("me@web.test")).unlike_webpki(),
        row("a mailbox beside the domain", &mails, mailbox("me@web.other")).refused(
            "x509: a root or intermediate certificate is not authorized to sign for this name: email address \"me@web.other\" is not permitted by any constraint",
        ),
        row("a mailbox at the domain", &mails, mailbox("me@TEST")).unlike_webpki(),
        row("the mailbox", &one, mailbox("me@web.test")).unlike_webpki(),
        row("another mailbox", &one, mailbox("you@web.test")).refused(
            "x509: a root or intermediate certificate is not authorized to sign for this name: email address \"you@web.test\" is not permitted by any constraint",
        ),
        row("an excluded mailbox", &not_mails, mailbox("me@test")).refused(
            "x509: a root or intermediate certificate is not authorized to sign for this name: email address \"me@test\" is excluded by constraint \"test\"",
        ),
        row("a URI where hosts are constrained", &test, uri("spiffe://cluster.local/ns/a")),
        row("a URI in the domain", &uris, uri("https://a.test:8443/x")).unlike_webpki(),
        row("a URI beside the domain", &uris, uri("https://a.other/x")).refused(
            "x509: a root or intermediate certificate is not authorized to sign for this name: URI \"https://a.other/x\" is not permitted by any constraint",
        ),
        row("a URI without a host", &test, uri("urn:uuid:1")).refused(
            "x509: a root or intermediate certificate is not authorized to sign for this name: URI with empty host (\"urn:uuid:1\") cannot be matched against constraints",
        ).unlike_webpki(),
        server("a directory name, critical", &[&directory.leaf(&[WEB], |_| {})], &directory.der)
            .refused(CRITICAL),
    ]
}

fn roots() -> Vec<Row> {
    let row = |what, ca: Authority| server(what, &[&ca.leaf(&[WEB], |_| {})], &ca.der);
    let cannot = "x509: certificate signed by unknown authority (possibly because of \"x509: invalid signature: parent certificate cannot sign this kind of certificate\" while trying to verify candidate authority certificate \"ca\")";
    let expired = Authority::new("ca", |p| p.not_after = date_time_ymd(2021, 1, 1));
    let none = Authority::new("ca", |p| p.is_ca = IsCa::NoCa);
    let said_none = Authority::new("ca", |p| p.is_ca = IsCa::ExplicitNoCa);
    let may_not = Authority::new("ca", |p| {
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature]
    });
    let may = Authority::new("ca", |p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    let critical = Authority::new("ca", |p| {
        p.custom_extensions = vec![extension(&[1, 2, 3], true, &[5, 0])];
    });
    let over_none = Authority::new("ca", |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let between = over_none.below("between", |_| {});
    let by_between = between.leaf(&[WEB], |_| {});
    let negative = Authority::new("ca", |_| {}).changed(|p| p[1] = vec![2, 1, 0x80]);
    vec![
        row("trusted, expired", expired)
            .refused("x509: certificate has expired or is not yet valid: current time 2027-01-15T08:00:00Z is after 2021-01-01T00:00:00Z")
            .unlike_webpki(),
        row("trusted, no authority", none).refused(cannot).unlike_webpki(),
        row("trusted, said to be none", said_none).refused(cannot).unlike_webpki(),
        row("trusted, may not sign", may_not).refused(cannot).unlike_webpki(),
        row("trusted, may sign", may),
        row("trusted, with something critical", critical).refused(CRITICAL).unlike_webpki(),
        server("trusted, over none", &[&by_between, &between.der], &over_none.der)
            .refused("x509: too many intermediates for path length constraint")
            .unlike_webpki(),
        row("trusted, a negative number", negative).refused(UNKNOWN).unlike_webpki(),
    ]
}

fn intermediates() -> Vec<Row> {
    let ca = Authority::new("ca", |_| {});
    let row = |what, between: Authority| {
        server(
            what,
            &[&between.leaf(&[WEB], |_| {}), &between.der],
            &ca.der,
        )
    };
    let over_none = ca.below("over none", |p| {
        p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let second = over_none.below("second", |_| {});
    let by_second = second.leaf(&[WEB], |_| {});
    let leaf = ca.leaf(&[WEB], |_| {});
    let junk = Der::from(vec![1, 2, 3]);
    let cannot = "x509: certificate signed by unknown authority (possibly because of \"x509: invalid signature: parent certificate cannot sign this kind of certificate\" while trying to verify candidate authority certificate \"between\")";
    vec![
        row("between, expired", ca.below("between", |p| p.not_after = date_time_ymd(2021, 1, 1)))
            .refused("x509: certificate has expired or is not yet valid: current time 2027-01-15T08:00:00Z is after 2021-01-01T00:00:00Z"),
        row("between, no authority", ca.below("between", |p| p.is_ca = IsCa::NoCa)).refused(cannot),
        row("between, may not sign", ca.below("between", |p| {
            p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        }))
        .refused(cannot)
        .unlike_webpki(),
        row("between, for anything", ca.below("between", |p| {
            p.extended_key_usages = vec![Purpose::Any];
        }))
        .unlike_webpki(),
        server("one too many", &[&by_second, &second.der, &over_none.der], &ca.der)
            .refused("x509: too many intermediates for path length constraint"),
        server("junk beside", &[&leaf, &junk], &ca.der)
            .refused("x509: malformed certificate")
            .unlike_webpki(),
    ]
}

fn times() -> Vec<Row> {
    let ca = Authority::new("ca", |_| {});
    let past = ca.leaf(&[WEB], |p| p.not_after = date_time_ymd(2027, 1, 1));
    let future = ca.leaf(&[WEB], |p| p.not_before = date_time_ymd(2027, 2, 1));
    let said_past = "x509: certificate has expired or is not yet valid: current time 2027-01-15T08:00:00Z is after 2027-01-01T00:00:00Z";
    vec![
        server("expired", &[&past], &ca.der).refused(said_past),
        server("not valid yet", &[&future], &ca.der).refused("x509: certificate has expired or is not yet valid: current time 2027-01-15T08:00:00Z is before 2027-02-01T00:00:00Z"),
        server("trusted itself, expired", &[&past], &past).refused(said_past),
    ]
}

fn oddities() -> Vec<Row> {
    let ca = Authority::new("ca", |_| {});
    let with = |oid: &[u64], critical, content: &[u8]| {
        ca.leaf(&[WEB], |p| {
            p.custom_extensions = vec![extension(oid, critical, content)];
        })
    };
    let leaf = ca.leaf(&[WEB], |_| {});
    let number = |bytes: &[u8]| ca.again(&leaf, |p| p[1] = tlv(2, bytes));
    let unique = ca.again(&leaf, |p| p.insert(7, vec![0x81, 2, 0, 1]));
    let sha1 = ca.again(&leaf, |p| {
        p[2] = tlv(0x30, &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1]);
    });
    let twice = ca.leaf(&[WEB], |p| {
        let one = || extension(&[1, 2, 3], false, &[5, 0]);
        p.custom_extensions = vec![one(), one()];
    });
    let policy = tlv(0x30, &tlv(0x30, &tlv(6, &[0x2a, 3, 4])));
    let explicit = tlv(0x30, &tlv(0x80, &[0]));
    vec![
        server("something critical", &[&with(&[1, 2, 3], true, &[5, 0])], &ca.der).refused(CRITICAL),
        server("something", &[&with(&[1, 2, 3], false, &[5, 0])], &ca.der),
        server("critical policies", &[&with(&[2, 5, 29, 32], true, &policy)], &ca.der)
            .unlike_webpki(),
        server("policies demanded", &[&with(&[2, 5, 29, 36], false, &explicit)], &ca.der)
            .refused("x509: no valid chains built: 1 candidate chains with invalid policies")
            .unlike_webpki(),
        server("a negative number", &[&number(&[0x80])], &ca.der)
            .refused("x509: negative serial number")
            .unlike_webpki(),
        server("number zero", &[&number(&[0])], &ca.der),
        server("unique identifiers", &[&unique], &ca.der).unlike_webpki(),
        server("an extension twice", &[&twice], &ca.der)
            .refused("x509: certificate contains duplicate extension with OID \"1.2.3\"")
            .unlike_webpki(),
        server("SHA-1", &[&sha1], &ca.der).refused("x509: certificate signed by unknown authority (possibly because of \"x509: cannot verify signature: insecure algorithm ECDSA-SHA1\" while trying to verify candidate authority certificate \"ca\")"),
    ]
}

fn algorithms() -> Vec<Row> {
    let row = |what, algorithm| {
        let ca = Authority::with("ca", KeyPair::generate_for(algorithm).unwrap(), |_| {});
        server(what, &[&ca.leaf(&[WEB], |_| {})], &ca.der)
    };
    let pems: Vec<Der> = CertificateDer::pem_slice_iter(include_bytes!("rsa1024.pem"))
        .map(Result::unwrap)
        .collect();
    vec![
        row("P-256", &rcgen::PKCS_ECDSA_P256_SHA256),
        row("P-384", &rcgen::PKCS_ECDSA_P384_SHA384),
        row("Ed25519", &rcgen::PKCS_ED25519),
        server("RSA of 1024 bits", &[&pems[1]], &pems[0]).unlike_webpki(),
    ]
}

fn searches() -> Vec<Row> {
    let (old, new) = (Authority::new("ca", |_| {}), Authority::new("ca", |_| {}));
    let leaf = new.leaf(&[WEB], |_| {});
    let mut renewed = server("an authority with a new key", &[&leaf], &old.der);
    renewed.roots.push(new.der.clone());
    let wrong: Vec<Authority> = (0..100).map(|_| new.below("between", |_| {})).collect();
    let by_last = wrong[99].leaf(&[WEB], |_| {});
    let mut many = server("a hundred namesakes", &[&by_last], &new.der);
    many.chain.extend(wrong.iter().rev().map(|c| c.der.clone()));
    let mut too_many = server("too many namesakes", &[&by_last], &new.der);
    too_many.chain.extend(wrong.iter().map(|c| c.der.clone()));
    // Two that vouch for each other, and for nobody else.
    let (a, b) = (Authority::new("a", |_| {}), Authority::new("b", |_| {}));
    let by_a = a.leaf(&[WEB], |_| {});
    let a_by_b = b.again(&a.der, |p| p[3] = b.subject());
    let b_by_a = a.again(&b.der, |p| p[3] = a.subject());
    vec![
        renewed,
        many,
        too_many.refused(
            "x509: signature check attempts limit reached while verifying certificate chain",
        ),
        server("in circles", &[&by_a, &a_by_b, &b_by_a], &new.der).refused(UNKNOWN),
    ]
}
