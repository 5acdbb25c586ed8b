//! Which names an authority may vouch for (RFC 5280, section 4.2.1.10), as Go weighs it
//! (`crypto/x509/constraints.go`): names of hosts and addresses, of mailboxes and in URIs. Constraints on
//! directory names are not known: where they are critical, the certificate is refused.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use x509_parser::extensions::{GeneralName, GeneralSubtree, NameConstraints};

use super::Untrusted;
use super::certificate::{Certificate, Names, ascii, malformed};

/// Comparisons for one chain, so that nobody can have the verifier compare for long: what webpki, and Go
/// before it sorted them, allow.
const MOST_COMPARISONS: usize = 250_000;

#[derive(Default)]
pub(super) struct Constraints {
    permitted: Subtrees,
    excluded: Subtrees,
    /// Kinds of names that are not weighed.
    pub(super) has_unknown: bool,
}

#[derive(Default)]
struct Subtrees {
    dns: Vec<String>,
    networks: Vec<Network>,
    /// Domains, and mailboxes with an `@`.
    mails: Vec<String>,
    uris: Vec<String>,
}

impl Constraints {
    pub(super) fn of(given: &NameConstraints<'_>) -> Result<Self, Untrusted> {
        if given.permitted_subtrees.is_none() && given.excluded_subtrees.is_none() {
            return Err(malformed("empty name constraints extension"));
        }
        let mut constraints = Self::default();
        let (permitted, p) = Subtrees::of(given.permitted_subtrees.as_deref())?;
        let (excluded, e) = Subtrees::of(given.excluded_subtrees.as_deref())?;
        (constraints.permitted, constraints.excluded) = (permitted, excluded);
        constraints.has_unknown = p || e;
        Ok(constraints)
    }
}

impl Subtrees {
    /// The subtrees, and whether there are some of kinds that are not known.
    fn of(given: Option<&[GeneralSubtree<'_>]>) -> Result<(Self, bool), Untrusted> {
        let (mut trees, mut unknown) = (Self::default(), false);
        for subtree in given.unwrap_or_default() {
            match &subtree.base {
                GeneralName::DNSName(name) => trees.dns.push(domain(name)?),
                GeneralName::URI(name) if is_address(name) => {
                    return Err(malformed("a URI constraint is an IP address"));
                }
                GeneralName::URI(name) => trees.uris.push(domain(name)?),
                GeneralName::RFC822Name(mail) => match mail.contains('@') {
                    true => {
                        let mailbox = mailbox(mail).ok_or_else(|| {
                            malformed(&format!("failed to parse rfc822Name constraint {mail:?}"))
                        })?;
                        trees.mails.push(mailbox.join("@"));
                    }
                    false => trees.mails.push(domain(mail)?),
                },
                GeneralName::IPAddress(bytes) => trees.networks.push(Network::of(bytes)?),
                GeneralName::Invalid(tag, _) if [1, 2, 6].contains(&tag.0) => {
                    return Err(malformed("invalid constraint value"));
                }
                _ => unknown = true,
            }
        }
        Ok((trees, unknown))
    }
}

/// Whether all names in a chain are what the authorities above them may vouch for.
pub(super) fn check(chain: &[&Certificate]) -> Result<(), Untrusted> {
    let mut budget = MOST_COMPARISONS;
    for (i, certificate) in chain.iter().enumerate() {
        let Some(names) = &certificate.names else {
            continue;
        };
        let mut above = chain[i + 1..]
            .iter()
            .filter_map(|c| c.constraints.as_ref())
            .peekable();
        if above.peek().is_none() {
            continue;
        }
        let claims = Claims::of(names).map_err(Untrusted::Constrained)?;
        for constraints in above {
            let trees = constraints.permitted.len() + constraints.excluded.len();
            budget = trees
                .checked_mul(claims.len())
                .and_then(|comparisons| budget.checked_sub(comparisons))
                .ok_or_else(|| Untrusted::Constrained("too many constraints".to_owned()))?;
            claims.check(constraints).map_err(Untrusted::Constrained)?;
        }
    }
    Ok(())
}

/// The names of a certificate, in parts that can be held against constraints.
struct Claims<'a> {
    dns: &'a [String],
    addresses: &'a [IpAddr],
    mails: Vec<[String; 2]>,
    /// URIs and their hosts.
    uris: Vec<(&'a String, String)>,
}

impl<'a> Claims<'a> {
    fn of(names: &'a Names) -> Result<Self, String> {
        let mut uris = Vec::new();
        for uri in &names.uris {
            let host = host(uri).map_err(|with| {
                format!("URI with {with} ({uri:?}) cannot be matched against constraints")
            })?;
            uris.push((uri, host));
        }
        let mut mails = Vec::new();
        for mail in &names.mails {
            let parts = mailbox(mail);
            mails.push(parts.ok_or_else(|| format!("cannot parse rfc822Name {mail:?}"))?);
        }
        if let Some(bad) = names.dns.iter().find(|name| !is_domain(name)) {
            return Err(format!("x509: cannot parse dnsName {bad:?}"));
        }
        Ok(Self {
            dns: &names.dns,
            addresses: &names.addresses,
            mails,
            uris,
        })
    }

    fn len(&self) -> usize {
        self.dns.len() + self.addresses.len() + self.mails.len() + self.uris.len()
    }

    fn check(
        &self,
        Constraints {
            permitted,
            excluded,
            ..
        }: &Constraints,
    ) -> Result<(), String> {
        for address in self.addresses {
            let within = |net: &Network| net.contains(*address);
            let lists = (&permitted.networks[..], &excluded.networks[..]);
            one("IP address", &address.to_string(), lists, within, within)?;
        }
        let domains = |kind, name: &str, domain: &str, lists| {
            let within = |tree: &String| is_within(domain, tree);
            let touches = |tree: &String| is_within(domain, tree) || could_be(domain, tree);
            one(kind, name, lists, within, touches)
        };
        for name in self.dns {
            let lists = (&permitted.dns[..], &excluded.dns[..]);
            domains("DNS name", name, name, lists)?;
        }
        for (uri, host) in &self.uris {
            let lists = (&permitted.uris[..], &excluded.uris[..]);
            domains("URI", uri, host, lists)?;
        }
        for mailbox in &self.mails {
            let whole = mailbox.join("@");
            let lists = (&permitted.mails[..], &excluded.mails[..]);
            let within = |tree: &String| match tree.contains('@') {
                true => *tree == whole,
                false => is_within(&mailbox[1], tree),
            };
            one("email address", &whole, lists, within, within)?;
        }
        Ok(())
    }
}

impl Subtrees {
    fn len(&self) -> usize {
        self.dns.len() + self.networks.len() + self.mails.len() + self.uris.len()
    }
}

/// One name against what is permitted, if anything is, and what is excluded.
fn one<T: fmt::Display>(
    kind: &str,
    name: &str,
    (permitted, excluded): (&[T], &[T]),
    within: impl Fn(&T) -> bool,
    touches: impl Fn(&T) -> bool,
) -> Result<(), String> {
    if !permitted.is_empty() && !permitted.iter().any(within) {
        return Err(format!(
            "{kind} {name:?} is not permitted by any constraint"
        ));
    }
    match excluded.iter().find(|tree| touches(tree)) {
        Some(tree) => {
            let tree = tree.to_string();
            Err(format!(
                "{kind} {name:?} is excluded by constraint {tree:?}"
            ))
        }
        None => Ok(()),
    }
}

/// Whether a name lies in a domain: `example.com` is the domain and all below, `.example.com` what is
/// below, and an empty one everything.
fn is_within(name: &str, tree: &str) -> bool {
    let (name, tree) = (name.to_ascii_lowercase(), tree.to_ascii_lowercase());
    match name.strip_suffix(tree.as_str()) {
        Some(before) => {
            tree.is_empty() || tree.starts_with('.') || before.is_empty() || before.ends_with('.')
        }
        None => false,
    }
}

/// Whether a wildcard could stand for an excluded name: `*.example.com` for `a.example.com`.
fn could_be(name: &str, tree: &str) -> bool {
    let beyond = |name: &str| {
        name.split_once('.')
            .map(|(_, rest)| rest.to_ascii_lowercase())
    };
    name.starts_with('*') && beyond(name).is_some() && beyond(name) == beyond(tree)
}

/// Go's `domainNameValid`, of a name.
fn is_domain(name: &str) -> bool {
    name.is_empty()
        || name
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_graphic()))
}

/// A domain in a constraint, which may begin with a dot.
fn domain(text: &str) -> Result<String, Untrusted> {
    let text = ascii(text)?;
    match is_domain(text.strip_prefix('.').unwrap_or(&text)) {
        true => Ok(text),
        false => Err(malformed(&format!("failed to parse constraint {text:?}"))),
    }
}

fn is_address(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    bare.unwrap_or(text).parse::<IpAddr>().is_ok()
}

/// The two parts of a mailbox, the domain in lower case. Local parts in quotes are not had: they are
/// refused where there are constraints.
fn mailbox(mail: &str) -> Option<[String; 2]> {
    let (local, domain) = mail.split_once('@')?;
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
    let is_local = local
        .split('.')
        .all(|a| !a.is_empty() && a.bytes().all(atom));
    let is_known = is_local && !domain.is_empty() && is_domain(domain);
    is_known.then(|| [local.to_owned(), domain.to_ascii_lowercase()])
}

/// The host in a URI, in lower case; or what is there instead.
fn host(uri: &str) -> Result<String, &'static str> {
    let (scheme, rest) = uri.split_once("://").ok_or("empty host")?;
    let is_scheme = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    let begins = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    if !begins || !scheme.bytes().all(is_scheme) {
        return Err("empty host");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (_, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.starts_with('[') || is_address(host) {
        return Err("IP");
    }
    let host = match host.split_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) => return Err("unknown host"),
        None => host,
    };
    match host {
        "" => Err("empty host"),
        host if is_address(host) => Err("IP"),
        host if is_domain(host) => Ok(host.to_ascii_lowercase()),
        _ => Err("unknown host"),
    }
}

/// An address of four or sixteen bytes.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|b| IpAddr::from(Ipv4Addr::from(b)));
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|b| IpAddr::from(Ipv6Addr::from(b))))
        .ok()
}

/// Addresses with a common prefix.
struct Network {
    base: IpAddr,
    prefix: u32,
}

impl Network {
    /// An address and a mask of the same length, whose ones stand in front.
    fn of(bytes: &[u8]) -> Result<Self, Untrusted> {
        let (base, mask) = bytes.split_at(bytes.len() / 2);
        let bits = |mask: IpAddr| match mask {
            IpAddr::V4(mask) => (u128::from(mask.to_bits()) << 96, 32),
            IpAddr::V6(mask) => (mask.to_bits(), 128),
        };
        match (address(base), address(mask).map(bits)) {
            (Some(base), Some((mask, width))) if mask.count_ones() == mask.leading_ones() => {
                Ok(Self {
                    base,
                    prefix: mask.leading_ones().min(width),
                })
            }
            _ => Err(malformed("an IP constraint is no network")),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(a)) => u128::from(base.to_bits() ^ a.to_bits()) << 96,
            (IpAddr::V6(base), IpAddr::V6(a)) => base.to_bits() ^ a.to_bits(),
            _ => return false,
        };
        differ.leading_zeros() >= self.prefix
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}
