//! `TracingConfiguration`: where traces go, and how many requests are traced.
//!
//! Source: `k8s.io/component-base/tracing/api/v1/{types,config}.go`.

use serde::{Deserialize, Serialize};

use super::{Problems, Versioned};

/// A file of the API server, or a field of the kubelet's.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TracingConfiguration {
    /// The collector, as gRPC names servers; without TLS. Unset: `localhost:4317`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Traces in a million of those that nobody decided about before. Unset: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling_rate_per_million: Option<i32>,
}

impl Versioned for TracingConfiguration {
    const API_VERSIONS: &'static [&'static str] = &[
        "apiserver.config.k8s.io/v1",
        "apiserver.config.k8s.io/v1beta1",
        "apiserver.config.k8s.io/v1alpha1",
    ];
    const KIND: &'static str = "TracingConfiguration";
}

/// A rate of one.
pub(crate) const ONE: i32 = 1_000_000;

impl TracingConfiguration {
    /// Upstream's `ValidateTracingConfiguration`. The path is empty, or ends with a dot.
    pub fn validate(&self, path: &str, problems: &mut Problems) {
        if let Some(rate) = self.sampling_rate_per_million {
            let at = format!("{path}samplingRatePerMillion");
            let mut wrong = |why| problems.add(&at, format!("Invalid value: {rate}: {why}"));
            if rate < 0 {
                wrong("sampling rate must be positive");
            }
            if rate > ONE {
                wrong("sampling rate per million must be less than or equal to one million");
            }
        }
        if let Some(endpoint) = &self.endpoint {
            let url = match endpoint.contains("//") {
                true => endpoint.clone(),
                false => format!("dns://{endpoint}"),
            };
            if let Err(why) = check(&url) {
                let at = format!("{path}endpoint");
                problems.add(&at, format!("Invalid value: {url:?}: {why}"));
            }
        }
    }
}

/// What is wrong with the address of a collector, as a URL.
fn check(url: &str) -> Result<(), String> {
    let broken = |why: &str| Err(format!("parse {url:?}: {why}"));
    if url.bytes().any(|b| b.is_ascii_control()) {
        return broken("net/url: invalid control character in URL");
    }
    let (scheme, rest) = match url.split_once(':') {
        Some(("", _)) => return broken("missing protocol scheme"),
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_ascii_lowercase(), rest),
        // What stands before the first colon is no scheme, and no path may begin like this.
        Some((before, _)) if !before.contains('/') => {
            return broken("first path segment in URL cannot contain colon");
        }
        _ => (String::new(), url),
    };
    if let Some(rest) = rest.strip_prefix("//") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
        if host.contains(' ') {
            return broken("invalid character \" \" in host name");
        }
        if let Some(port) = bad_port(host) {
            return broken(&format!("invalid port {port:?} after host"));
        }
    }
    match scheme.as_str() {
        "dns" | "unix" | "unix-abstract" => Ok(()),
        other => Err(format!(
            "unsupported scheme: {other}.  Options are none, dns, unix, or unix-abstract.  \
             See https://github.com/grpc/grpc/blob/master/doc/naming.md"
        )),
    }
}

/// RFC 3986, 3.1.
fn is_scheme(text: &str) -> bool {
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let rest = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    first && text.chars().all(rest)
}

/// What stands where a port should, if it is none; with its colon.
fn bad_port(host: &str) -> Option<&str> {
    let after = match host.rfind(']') {
        Some(end) if host.starts_with('[') => &host[end + 1..],
        _ => host.find(':').map_or("", |at| &host[at..]),
    };
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit());
    let good = after.is_empty() || after.strip_prefix(':').is_some_and(digits);
    (!good).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(fields: &str) -> Vec<String> {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\n";
        let config: TracingConfiguration =
            super::super::read(format!("{head}{fields}").as_bytes()).unwrap();
        let mut problems = Problems::new();
        config.validate("tracing.", &mut problems);
        problems.iter().map(str::to_owned).collect()
    }

    #[test]
    fn rates_are_parts_of_a_million() {
        for good in [
            "",
            "samplingRatePerMillion: 0",
            "samplingRatePerMillion: 1000000",
        ] {
            assert!(problems(good).is_empty(), "{good}");
        }
        assert_eq!(
            problems("samplingRatePerMillion: -1"),
            ["tracing.samplingRatePerMillion: Invalid value: -1: sampling rate must be positive"]
        );
        assert_eq!(
            problems("samplingRatePerMillion: 1000001"),
            [
                "tracing.samplingRatePerMillion: Invalid value: 1000001: sampling rate per million must be less than or equal to one million"
            ]
        );
    }

    #[test]
    fn endpoints_are_names_of_grpc() {
        for good in [
            "localhost:4317",
            "collector",
            "[::1]:4317",
            "dns://google.com:4317",
            "dns:///collector.monitoring:4317",
            "unix://path/to/socket",
            "unix:/var/run/otel.sock",
            "unix-abstract:///otel",
        ] {
            let said = problems(&format!("endpoint: '{good}'"));
            assert!(said.is_empty(), "{good}: {said:?}");
        }
        for (bad, why) in [
            (
                "http://localhost:4317",
                "unsupported scheme: http.  Options",
            ),
            (
                "dn%2s://localhost:4317",
                "first path segment in URL cannot contain colon",
            ),
            ("localhost:otlp", "invalid port \":otlp\" after host"),
            ("://x", "missing protocol scheme"),
            ("//x", "unsupported scheme: .  Options"),
        ] {
            let said = problems(&format!("endpoint: '{bad}'"));
            assert_eq!(said.len(), 1, "{bad}: {said:?}");
            assert!(said[0].contains(why), "{bad}: {said:?}");
            assert!(
                said[0].starts_with("tracing.endpoint: Invalid value: "),
                "{said:?}"
            );
        }
        let both = problems("endpoint: http://a\nsamplingRatePerMillion: -1");
        assert_eq!(both.len(), 2, "all that is wrong is told at once");
    }

    #[test]
    fn older_versions_are_read() {
        for version in ["v1", "v1beta1", "v1alpha1"] {
            let text = format!(
                "apiVersion: apiserver.config.k8s.io/{version}\nkind: TracingConfiguration\nendpoint: a:1\n"
            );
            let read: TracingConfiguration = super::super::read(text.as_bytes()).unwrap();
            assert_eq!(read.endpoint.as_deref(), Some("a:1"), "{version}");
        }
        let old = "apiVersion: apiserver.k8s.io/v1beta1\nkind: TracingConfiguration\n";
        assert!(super::super::read::<TracingConfiguration>(old.as_bytes()).is_err());
        let typo =
            "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration\nsamplingRate: 1\n";
        assert!(super::super::read::<TracingConfiguration>(typo.as_bytes()).is_err());
    }
}
