//! What a request says beside its body: path, query, headers.

use component::client::path_decode;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use resources::negotiate::{self, Encoding, Offers};
use resources::object;
use resources::options::{DeleteOptions, FieldValidation, ListOptions, WriteOptions};
use resources::request::{Query, RequestInfo};

use crate::Target;
use crate::input::join;
use crate::objects::{number_of_resource, objects, resource};

const METHODS: [Method; 6] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
];

pub(crate) const REQUEST: Target = Target {
    name: "request",
    run: |mut input| {
        let method = &METHODS[usize::from(input.byte()) % METHODS.len()];
        let [target, headers] = input.parts();
        let Ok(uri) = Uri::try_from(target) else {
            return;
        };
        let query = Query::parse(&uri);
        paths(method, &uri, &query);
        options(&query);
        negotiation(headers, &query);
    },
    seeds: || {
        [
            "/api/v1/namespaces/default/pods/web-0/log?container=a&follow=true&tailLines=10\u{0}",
            "/apis/apps/v1/deployments?labelSelector=a%3Db&fieldSelector=metadata.name%3Dx&limit=500&continue=eyJ2&watch=1",
            "/api/v1/watch/namespaces/%2e%2e/pods?resourceVersion=0&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
            "/api/v1/namespaces/a/pods/b/proxy/c//d?timeoutSeconds=30&sendInitialEvents=true",
            "/apis/x/y/z?propagationPolicy=Foreground&gracePeriodSeconds=-1&dryRun=All&fieldManager=a&fieldValidation=Strict&force=true&pretty=1&includeObject=None&ignoreStoreReadErrorWithClusterBreakingPotential=true",
        ]
        .iter()
        .map(|target| {
            let headers = "application/json;as=Table;v=v1;g=meta.k8s.io,application/yaml;q=0.5,*/*\napplication/vnd.kubernetes.protobuf;stream=watch\nkubectl/v1.37 (linux/amd64)";
            let mut seed = vec![0];
            seed.extend([target.trim_end_matches('\0').as_bytes(), headers.as_bytes()].join(&crate::input::SEPARATOR));
            seed
        })
        .collect()
    },
};

fn paths(method: &Method, uri: &Uri, query: &Query) {
    for segment in uri.path().split('/') {
        assert_eq!(path_decode(segment), decoded(segment), "{segment:?}");
    }
    let Ok(info) = RequestInfo::read(method, uri, query) else {
        return;
    };
    assert_eq!(info.path, uri.path());
    if info.is_resource {
        assert!(!info.prefix.is_empty() && !info.parts.is_empty());
        assert!(info.subresource.is_empty() || !info.parts[1].is_empty() || info.name.is_empty());
    } else {
        assert!(info.resource.is_empty() && info.group.is_empty() && info.namespace.is_empty());
    }
}

/// RFC 3986, section 2.1: a percent sign and two hexadecimal digits; what is not that stays.
fn decoded(segment: &str) -> String {
    let mut bytes = segment.bytes().peekable();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digit = |b: Option<u8>| {
            b.and_then(|b| char::from(b).to_digit(16))
                .and_then(|d| u8::try_from(d).ok())
        };
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn options(query: &Query) {
    for kind in ["CreateOptions", "UpdateOptions", "PatchOptions"] {
        if let Ok(options) = WriteOptions::read(query, kind) {
            assert!(options.field_manager.len() <= 128);
        }
    }
    for watch in [false, true] {
        let _ = ListOptions::read(query, watch);
    }
    if let Ok(options) = DeleteOptions::from_query(query) {
        let _ = options.check_unread();
    }
}

/// One header a line: what is accepted, what is sent, who asks.
fn negotiation(headers: &[u8], query: &Query) {
    let names: [HeaderName; 3] = [ACCEPT, CONTENT_TYPE, USER_AGENT];
    let lines = headers.split(|b| *b == b'\n');
    let values = names.into_iter().zip(lines);
    let map: HeaderMap = values
        .filter_map(|(name, line)| Some((name, HeaderValue::from_bytes(line).ok()?)))
        .collect();
    for offers in [
        Offers::Object,
        Offers::Untabled,
        Offers::Stream,
        Offers::Plain,
    ] {
        if let Ok(media) = negotiate::output(&map, query, offers) {
            assert!(!(media.pretty && media.encoding != Encoding::Json));
            assert!(offers != Offers::Stream || media.encoding != Encoding::Yaml);
            let _ = (media.content_type(), media.stream_type());
        }
    }
    let offered = ["application/json", "text/plain"];
    assert!(negotiate::first(&map, &offered).is_none_or(|m| offered.contains(&m)));
    let _ = negotiate::input(&map);
}

/// The body of a write, in each encoding.
pub(crate) const BODY: Target = Target {
    name: "body",
    run: |mut input| {
        let resource = resource(input.number());
        let encoding = input.pick(&[Encoding::Json, Encoding::Yaml, Encoding::Protobuf]);
        let validation = input.pick(&[
            FieldValidation::Ignore,
            FieldValidation::Warn,
            FieldValidation::Strict,
        ]);
        let body = input.rest();
        let Some((served, hub)) = object::types(resource, proto::catalogue::Release::COMPATIBLE)
        else {
            return;
        };
        if let Ok(decoded) = object::decode(body, encoding, &served, validation)
            && let Ok(converted) = object::convert(decoded.object, &served, &hub)
        {
            let stored = object::to_stored(&converted, &hub);
            let sealed = proto::codec::protobuf::open(&stored).expect("what is stored is sealed");
            let again = proto::codec::protobuf::decode(sealed.raw, hub.message);
            again.expect("what is stored is read");
        }
        let _ = object::from_body(body, &hub);
        if let Ok(parsed) = proto::codec::json::parse(body)
            && let Ok(options) = DeleteOptions::from_body(&parsed)
        {
            let _ = options.check_unread();
        }
    },
    seeds: || {
        let mut seeds = Vec::new();
        for object in objects().iter().filter(|o| o.json.len() < 1500) {
            let mut sealed = Vec::new();
            proto::codec::protobuf::envelope(
                &object.protobuf(),
                &object.resource.api_version(),
                object.resource.kind,
                &mut sealed,
            );
            let number = number_of_resource(object.resource);
            seeds.push(join(number, &[&[&[0, 2], &*object.json].concat()]));
            seeds.push(join(number, &[&[&[2, 2], &*sealed].concat()]));
        }
        seeds
    },
};
