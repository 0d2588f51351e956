//! Two requests have one fingerprint, or one body hash, if and only if they are the same; and it is made of the bytes that
//! are described.
//!
//! Both requests are cut out of the same bytes at other places: what runs together without a length in front of it does so
//! here.

use std::thread_local;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use std::time::Duration;
use tower_idempotency::{BodyHash, FingerprintPolicy, Key, KeySource};

use super::{
    desk::Desk,
    digest::{key_input, prefixed, sha256, text_of},
    input::Input,
};

const WINDOW: Duration = Duration::from_secs(10);
const COUNTED: [&str; 2] = ["x-a", "x-b"];
const PORTS: [&[u8]; 6] = [b"", b"", b"", b":80", b":443", b":8443"];

fn keyed(policy: FingerprintPolicy, scope: Option<&'static str>) -> Desk {
    Desk::new(|layer| {
        let layer = layer.key(KeySource::by(|_, _| Some("k"))).fingerprint(policy);
        match scope {
            Some(scope) => layer.scope(move |_| Some(scope)),
            None => layer,
        }
    })
}

thread_local! {
    static DEFAULT: Desk = keyed(FingerprintPolicy::default(), None);
    static HEADERS: Desk = keyed(FingerprintPolicy::default().header("x-a").header("x-b"), None);
    static SCOPED: Desk = keyed(FingerprintPolicy::default(), Some("acme"));
    static PER_CALLER: Desk = Desk::new(|layer| layer.key(KeySource::from(BodyHash::per_caller(WINDOW))));
    static ANY_CALLER: Desk = Desk::new(|layer| layer.namespace("n").key(KeySource::from(BodyHash::any_caller(WINDOW))));
}

pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let mode = input.byte();
    let plans = [input.take(16), input.take(16)];
    let [Some(one), Some(other)] = plans.map(|plan| Sent::cut(Input(plan), input)) else { return };
    match mode % 5 {
        0 => fingerprints(&DEFAULT, &one, &other, false, true),
        1 => fingerprints(&HEADERS, &one, &other, true, true),
        2 => fingerprints(&SCOPED, &one, &other, false, false),
        3 => body_hashes(&PER_CALLER, &one, &other, "", true),
        _ => body_hashes(&ANY_CALLER, &one, &other, "n", false),
    }
}

/// A request as it is sent.
#[derive(Debug)]
struct Sent {
    method: Method,
    uri: Uri,
    hosts: Vec<HeaderValue>,
    /// The lines of the headers that may count.
    counted: [Vec<HeaderValue>; 2],
    authorization: Vec<HeaderValue>,
    cookies: Vec<HeaderValue>,
    body: Vec<u8>,
}

impl Sent {
    /// Cuts a request out of `pool`, as `plan` says. `None`: there is no such request.
    fn cut(mut plan: Input<'_>, mut pool: Input<'_>) -> Option<Self> {
        let method = match plan.below(4) {
            0 => Method::from_bytes(pool.take(usize::from(plan.below(8)))).ok()?,
            choice => [Method::POST, Method::PATCH, Method::GET][usize::from(choice) - 1].clone(),
        };
        let mut host = |plan: &mut Input<'_>| {
            let host = in_alphabet(pool.take(usize::from(plan.below(12))), b"aAbB.:8043@");
            [&host[..], plan.one_of(&PORTS)].concat()
        };
        let authority = (plan.below(2) == 1).then(|| host(&mut plan));
        let hosts = (0..plan.below(4)).map(|_| HeaderValue::from_bytes(&host(&mut plan)).ok());
        let hosts = hosts.collect::<Option<Vec<_>>>()?;
        let target = in_alphabet(pool.take(usize::from(plan.below(12))), b"aAbB/?=&%2.*:@");
        let target = [b"/", &target[..]].concat();
        let uri = match authority {
            None => Uri::try_from(target).ok()?,
            Some(host) => {
                Uri::builder().scheme("http").authority(&host[..]).path_and_query(&target[..]).build().ok()?
            }
        };
        let mut lines = |plan: &mut Input<'_>| {
            let count = plan.below(4);
            (0..count)
                .map(|_| HeaderValue::from_bytes(pool.take(usize::from(plan.below(6)))).ok())
                .collect::<Option<Vec<_>>>()
        };
        let counted = [lines(&mut plan)?, lines(&mut plan)?];
        let (authorization, cookies) = (lines(&mut plan)?, lines(&mut plan)?);
        (method != Method::CONNECT).then(|| Self {
            method,
            uri,
            hosts,
            counted,
            authorization,
            cookies,
            body: pool.0.to_vec(),
        })
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(&self.body)));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.extend(self.hosts.iter().map(|host| (header::HOST, host.clone())));
        let [a, b] = COUNTED.map(HeaderName::from_static);
        for (name, lines) in [
            (a, &self.counted[0]),
            (b, &self.counted[1]),
            (header::AUTHORIZATION, &self.authorization),
            (header::COOKIE, &self.cookies),
        ] {
            headers.extend(lines.iter().map(|line| (name.clone(), line.clone())));
        }
        request
    }

    /// All authorities that are named, in one spelling each: the first, and those that are others.
    fn authority(&self) -> Vec<u8> {
        let target = self.uri.authority().map(|authority| authority.as_str().as_bytes());
        let named = target.into_iter().chain(self.hosts.iter().map(HeaderValue::as_bytes)).map(|sent| {
            let without_port = [&b":80"[..], b":443"].iter().find_map(|port| sent.strip_suffix(*port));
            without_port.unwrap_or(sent).to_ascii_lowercase()
        });
        let mut named: Vec<_> = named.collect();
        if let Some(first) = named.first().cloned() {
            let mut number = 0;
            named.retain(|other| {
                number += 1;
                number == 1 || *other != first
            });
        }
        named.join(&b'\n')
    }

    fn target(&self) -> [Vec<u8>; 3] {
        [self.method.as_str().into(), self.authority(), self.uri.path_and_query().unwrap().as_str().into()]
    }

    /// All that tells requests apart, but for who sends them.
    fn meaning(&self, headers: bool) -> impl PartialEq + std::fmt::Debug + use<'_> {
        (self.target(), headers.then_some(&self.counted), &self.body)
    }
}

fn in_alphabet(bytes: &[u8], alphabet: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| alphabet[usize::from(*byte) % alphabet.len()]).collect()
}

fn fingerprints(
    desk: &'static std::thread::LocalKey<Desk>,
    one: &Sent,
    other: &Sent,
    headers: bool,
    credentials: bool,
) {
    let [first, second] = [one, other].map(|sent| {
        let (_, fingerprint) = desk.with(|desk| desk.ask(sent.request())).claim.expect("it is claimed");
        let mut described = sent.target().iter().flat_map(|part| prefixed(part)).collect::<Vec<u8>>();
        for lines in sent.counted.iter().filter(|_| headers) {
            described.extend((lines.len() as u64).to_be_bytes());
            described.extend(lines.iter().flat_map(|line| prefixed(line.as_bytes())));
        }
        described.extend(&sent.body);
        let caller: Vec<u8> = sent.authorization.iter().flat_map(|line| prefixed(line.as_bytes())).collect();
        let caller = if sent.authorization.is_empty() || !credentials { [0; 32] } else { sha256(&caller) };
        assert_eq!(fingerprint.to_bytes()[..], [&sha256(&described)[..], &caller[..16]].concat(), "{sent:?}");
        fingerprint.to_bytes()
    });
    let same = one.meaning(headers) == other.meaning(headers);
    assert_eq!(first[..32] == second[..32], same, "{one:?} and {other:?}");
    let same_caller = !credentials || one.authorization == other.authorization;
    assert_eq!(first[32..] == second[32..], same_caller, "{one:?} and {other:?}");
}

fn body_hashes(
    desk: &'static std::thread::LocalKey<Desk>,
    one: &Sent,
    other: &Sent,
    namespace: &str,
    per_caller: bool,
) {
    let keys = [one, other].map(|sent| {
        let caller = [&sent.authorization, &sent.cookies].map(|lines| joined(lines));
        let named = [&sent.authorization, &sent.cookies].iter().any(|lines| lines.iter().any(|line| !is_blank(line)));
        let known = !sent.body.is_empty() && (named || !per_caller);
        let key = desk.with(|desk| desk.ask(sent.request())).claim.map(|(key, _)| key);
        let mut described = sent.target().iter().flat_map(|part| prefixed(part)).collect::<Vec<u8>>();
        described.push(u8::from(per_caller));
        described.extend(caller.iter().filter(|_| per_caller).flat_map(|lines| prefixed(lines)));
        described.extend(&sent.body);
        let described = key_input(namespace, 2, b"", text_of(sha256(&described)).as_bytes());
        assert_eq!(key, known.then(|| Key::from_bytes(sha256(&described))), "{sent:?}");
        key.map(|key| (key, caller))
    });
    let [Some((first, one_caller)), Some((second, other_caller))] = keys else { return };
    let same = one.meaning(false) == other.meaning(false) && (one_caller == other_caller || !per_caller);
    assert_eq!(first == second, same, "{one:?} and {other:?}");
}

fn is_blank(line: &HeaderValue) -> bool {
    line.as_bytes().iter().all(|byte| matches!(byte, b' ' | b'\t'))
}

/// The lines in one, as HTTP/1 sends cookies.
fn joined(lines: &[HeaderValue]) -> Vec<u8> {
    let lines: Vec<_> = lines.iter().map(HeaderValue::as_bytes).collect();
    lines.join(&b"; "[..])
}
