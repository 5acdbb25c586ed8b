//! What pods of Windows have of their own: credentials, user names and containers of the host.
//!
//! Upstream: `validateWindowsSecurityContextOptions`, `validateWindowsHostProcessPod`.

use proto::catalogue::names as n;
use proto::meta::names;
use proto::path::{Errors, Named, Spot};
use proto::view::core_v1::{PodSpec, WindowsSecurityContextOptions};

use super::Options;
use super::containers::all_containers;

/// A credential specification, in KiB.
const MAX_CREDENTIAL: usize = 64;
const MAX_DOMAIN: usize = 256;
const MAX_USER: usize = 104;
const MAX_NET_BIOS: usize = 15;
const MAX_DNS_LABEL: usize = 63;

pub(super) fn options(e: &mut Errors<'_>, options: Option<WindowsSecurityContextOptions<'_>>) {
    let Some(options) = options else { return };
    let at = Spot::of(options);
    if let Some(name) = options.gmsa_credential_spec_name() {
        let problems = names::dns_subdomain_problems(name);
        e.invalid_each(
            at.field(n::GMSA_CREDENTIAL_SPEC_NAME),
            Named(name),
            problems,
        );
    }
    if let Some(spec) = options.gmsa_credential_spec() {
        let field = at.field(n::GMSA_CREDENTIAL_SPEC);
        if spec.is_empty() {
            let detail = "gmsaCredentialSpec cannot be an empty string";
            e.invalid(field, Named(spec), detail);
        } else if spec.len() > MAX_CREDENTIAL * 1024 {
            let detail = format!("gmsaCredentialSpec size must be under {MAX_CREDENTIAL} KiB");
            e.invalid(field, Named(spec), detail);
        }
    }
    if let Some(name) = options.run_as_user_name() {
        let field = at.field(n::RUN_AS_USER_NAME);
        for problem in user_problems(name) {
            e.invalid(field, Named(name), format!("runAsUserName{problem}"));
        }
    }
}

/// `user` or `DOMAIN\user`.
fn user_problems(name: &str) -> Vec<String> {
    let one = |text: &str| vec![text.to_owned()];
    if name.is_empty() {
        return one(" cannot be an empty string");
    }
    if name.bytes().any(|b| b.is_ascii_control()) {
        return one(" cannot contain control characters");
    }
    let (domain, user) = match name.split_once('\\') {
        Some((_, user)) if user.contains('\\') => {
            return one(" cannot contain more than one backslash");
        }
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let mut problems = Vec::new();
    if let Some(domain) = domain {
        if domain.len() >= MAX_DOMAIN {
            problems.push(format!(
                "'s Domain length must be under {MAX_DOMAIN} characters"
            ));
        }
        if !is_net_bios(domain) && !is_dns(domain) {
            problems.push("'s Domain doesn't match the NetBios nor the DNS format".to_owned());
        }
    }
    if user.is_empty() {
        problems.push("'s User cannot be empty".to_owned());
    } else if user.len() > MAX_USER {
        problems.push(format!(
            "'s User length must not be longer than {MAX_USER} characters"
        ));
    }
    if !user.is_empty() && user.bytes().all(|b| matches!(b, b'.' | b' ')) {
        problems.push("'s User cannot contain only periods or spaces".to_owned());
    }
    if user.contains([
        '"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']',
    ]) {
        problems.push(
            r#"'s User cannot contain the following characters: "/\:;|=,+*?<>@[]"#.to_owned(),
        );
    }
    problems
}

fn is_net_bios(domain: &str) -> bool {
    let length = domain.chars().count();
    (1..=MAX_NET_BIOS).contains(&length)
        && !domain.starts_with('.')
        && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=MAX_DNS_LABEL).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

/// Containers of the host: all or none, on the host's network, and only where containers may be privileged.
pub(super) fn of_the_host(e: &mut Errors<'_>, spec: PodSpec<'_>, allowed: &Options<'_>) {
    let context = spec.security_context();
    let of_pod = context
        .and_then(|c| c.windows_options())
        .and_then(|w| w.host_process());
    let (mut all, mut of_host) = (0, 0);
    for container in all_containers(spec) {
        all += 1;
        let options = container
            .security_context()
            .and_then(|c| c.windows_options());
        let own = options.and_then(|w| w.host_process());
        if let (Some(options), Some(pod), Some(own)) = (options, of_pod, own)
            && pod != own
        {
            let detail =
                format!("pod hostProcess value must be identical if both are specified, was {pod}");
            e.invalid(Spot::of(options).field(n::HOST_PROCESS), own, detail);
        }
        of_host += usize::from(own.or(of_pod) == Some(true));
    }
    if of_host == 0 {
        return;
    }
    let at = Spot::of(spec);
    if of_host != all {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        e.invalid(at, "", detail);
    }
    if !spec.host_network() {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        e.invalid(at.field(PodSpec::HOST_NETWORK), false, detail);
    }
    if !allowed.privileged {
        e.forbidden(
            at,
            "hostProcess containers are disallowed by cluster policy",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_may_have_a_domain() {
        for good in ["me", "DOMAIN\\me", "sub.example.com\\me", "a b"] {
            assert!(user_problems(good).is_empty(), "{good}");
        }
        for (bad, problem) in [
            ("", "empty string"),
            ("a\u{7}", "control"),
            ("a\\b\\c", "more than one backslash"),
            ("\\me", "NetBios"),
            (".x\\me", "NetBios"),
            ("A\\", "User cannot be empty"),
            ("A\\. .", "only periods"),
            ("me@home", "following characters"),
        ] {
            let found = user_problems(bad);
            assert!(
                found.len() == 1 && found[0].contains(problem),
                "{bad}: {found:?}"
            );
        }
    }
}
