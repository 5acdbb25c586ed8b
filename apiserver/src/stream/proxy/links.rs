//! Addresses that a backend speaks of, as the client behind the proxy must have them. Pure.
//!
//! Upstream: `apimachinery/pkg/util/proxy/transport.go` (`rewriteURL`).

/// Where a proxied backend stands for its client.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// The path of this server up to and including `/proxy`.
    pub prefix: String,
    /// The backend's `host:port`.
    pub backend: String,
    /// The host that the client asked for.
    pub host: String,
}

impl Links {
    /// An address of the backend as one of this server's: its new beginning, and what of it stays. None
    /// if it stays wholly: those of other hosts do, and relative ones lead through the proxy anyway.
    pub(super) fn through<'u>(&self, url: &'u str) -> Option<(String, &'u str)> {
        let (origin, host, rest) = split(url);
        let asked = !host.is_empty() && host == self.host;
        if !(host.is_empty() || asked || host == self.backend) || !rest.starts_with('/') {
            return None;
        }
        let origin_stays = origin.is_empty() || asked;
        match (origin_stays, rest.starts_with(&self.prefix)) {
            (true, true) => None,
            (true, false) => Some((format!("{origin}{}", self.prefix), rest)),
            (false, true) => Some((String::new(), rest)),
            (false, false) => Some((self.prefix.clone(), rest)),
        }
    }

    /// `X-Forwarded-Uri`: the whole path, without what Go's `path.Join` takes out.
    pub(super) fn forwarded(&self, rest: &str) -> String {
        let mut kept: Vec<&str> = Vec::new();
        for segment in self.prefix.split('/').chain(rest.split('/')) {
            match segment {
                "" | "." => {}
                ".." => drop(kept.pop()),
                name => kept.push(name),
            }
        }
        let slash = if rest.ends_with('/') && !kept.is_empty() {
            "/"
        } else {
            ""
        };
        format!("/{}{slash}", kept.join("/"))
    }
}

/// Scheme and host as written, the host alone, and what follows.
fn split(url: &str) -> (&str, &str, &str) {
    let is_scheme = |text: &str| {
        let rest = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(rest)
    };
    let start = match url.split_once("://") {
        Some((scheme, _)) if is_scheme(scheme) => scheme.len() + 3,
        _ if url.starts_with("//") => 2,
        _ => return ("", "", url),
    };
    let end = url[start..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |i| start + i);
    let authority = &url[start..end];
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    (&url[..end], host, &url[end..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links {
            prefix: "/p/proxy".into(),
            backend: "10.0.0.1:80".into(),
            host: "api:6443".into(),
        }
    }

    #[test]
    fn addresses_of_the_backend_lead_back_through_the_proxy() {
        let through = |url: &str| {
            let new = links().through(url);
            new.map_or_else(|| url.to_owned(), |(before, stays)| before + stays)
        };
        for (url, seen) in [
            ("/x?y=1#z", "/p/proxy/x?y=1#z"),
            ("/p/proxy/x", "/p/proxy/x"),
            ("http://10.0.0.1:80/x", "/p/proxy/x"),
            ("//10.0.0.1:80/x", "/p/proxy/x"),
            ("http://u:p@10.0.0.1:80/p/proxy/x", "/p/proxy/x"),
            ("https://api:6443/x/", "https://api:6443/p/proxy/x/"),
            ("https://api:6443/p/proxy/x", "https://api:6443/p/proxy/x"),
            ("https://example.com/x", "https://example.com/x"),
            ("//example.com/x", "//example.com/x"),
            ("http://10.0.0.1:80", "http://10.0.0.1:80"),
            ("mailto:a@b", "mailto:a@b"),
            ("x", "x"),
            ("../x", "../x"),
            ("?a=/b://c", "?a=/b://c"),
            ("#a", "#a"),
            ("", ""),
        ] {
            assert_eq!(through(url), seen, "{url}");
        }
    }

    #[test]
    fn the_backend_learns_the_whole_path() {
        let forwarded = |rest: &str| links().forwarded(rest);
        assert_eq!(forwarded(""), "/p/proxy");
        assert_eq!(forwarded("/"), "/p/proxy/");
        assert_eq!(forwarded("/a//b/./c/"), "/p/proxy/a/b/c/");
        assert_eq!(forwarded("/a/../b"), "/p/proxy/b");
    }
}
