use http::{
    HeaderValue,
    header::{CONTENT_TYPE, SET_COOKIE},
};

use super::*;

fn fingerprint_1() -> Fingerprint {
    Fingerprint::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()))
}

fn all(_: &HeaderName) -> bool {
    true
}

fn example() -> (HeaderMap, HeaderMap) {
    let mut headers = HeaderMap::new();
    headers.append(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.append(SET_COOKIE, HeaderValue::from_static("a=1"));
    headers.append("x-price", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    let mut sensitive = HeaderValue::from_static("b=2");
    sensitive.set_sensitive(true);
    headers.append(SET_COOKIE, sensitive);
    let mut trailers = HeaderMap::new();
    trailers.append("grpc-status", HeaderValue::from_static("0"));
    (headers, trailers)
}

/// The layout is persisted: these bytes were worked out by hand from the module's description.
#[test]
fn a_response_is_laid_out_as_described() {
    let (headers, trailers) = example();
    let bytes =
        encode_response(&fingerprint_1(), StatusCode::CREATED, &headers, all, b"\x00\xff", Some(&trailers)).unwrap();
    let mut expected = vec![1, 1];
    expected.extend(0..48);
    expected.extend([0, 201, 0, 4, 0, 1]);
    expected.extend(b"\x01\x0atext/plain");
    expected.extend(b"\x14\x03a=1");
    expected.extend(b"\x94\x03b=2"); // HeaderMap iterates name by name
    expected.extend(b"\x00\x07x-price\x04caf\xe9");
    expected.extend(b"\x24\x010");
    expected.extend(b"\x00\xff");
    assert_eq!(bytes, expected);
}

#[test]
fn the_other_kinds_are_laid_out_as_described() {
    let preamble = |kind| [1, kind].into_iter().chain(0..48).collect::<Vec<u8>>();
    assert_eq!(encode_tombstone(&fingerprint_1()), preamble(0));
    assert_eq!(encode_value(&fingerprint_1(), b"v"), [preamble(2), b"v".to_vec()].concat());
    assert_eq!(encode_outcome_unknown(&fingerprint_1()), preamble(3));
}

#[test]
fn a_response_comes_back_as_it_was() {
    let (headers, trailers) = example();
    let bytes = encode_response(&fingerprint_1(), StatusCode::OK, &headers, all, b"body", Some(&trailers)).unwrap();
    let Content::Response(back) = decode(&bytes).unwrap() else { panic!("another kind") };
    assert_eq!(back.status, StatusCode::OK);
    assert_eq!(back.headers.iter().collect::<Vec<_>>(), headers.iter().collect::<Vec<_>>());
    let cookies: Vec<_> = back.headers.get_all(SET_COOKIE).iter().map(HeaderValue::is_sensitive).collect();
    assert_eq!(cookies, [false, true]);
    assert_eq!(back.trailers, Some(trailers));
    assert_eq!(back.body, "body");
    assert_eq!(fingerprint(&bytes), fingerprint_1());
}

#[test]
fn the_body_is_a_slice_of_the_record() {
    let bytes = encode_response(&fingerprint_1(), StatusCode::OK, &HeaderMap::new(), all, &[7; 1000], None).unwrap();
    let Content::Response(back) = decode(&bytes).unwrap() else { panic!("another kind") };
    assert!(bytes.as_ptr_range().contains(&back.body.as_ptr()));
    assert!(back.trailers.is_none());
}

#[test]
fn encoding_allocates_exactly_what_it_fills() {
    let mut headers = HeaderMap::new();
    for length in [0, 127, 128, 16_383, 16_384] {
        headers.append(CONTENT_TYPE, HeaderValue::from_str(&"v".repeat(length)).unwrap());
        headers.append("x-literal", HeaderValue::from_str(&"v".repeat(length)).unwrap());
    }
    let mut lines = BytesMut::new();
    put_lines(&mut lines, headers.iter()).unwrap();
    assert_eq!(measure_lines(headers.iter()), (headers.len(), lines.len()));
}

/// A store that keeps a million records keeps no slack with them.
#[test]
fn a_record_fills_its_memory() {
    let (headers, trailers) = example();
    let response = encode_response(&fingerprint_1(), StatusCode::OK, &headers, all, b"body", Some(&trailers)).unwrap();
    for record in [response, encode_value(&fingerprint_1(), b"value"), encode_tombstone(&fingerprint_1())] {
        let length = record.len();
        assert_eq!(record.try_into_mut().unwrap().capacity(), length);
    }
}

/// Seven bits a byte, the lowest first, all but the last byte with the highest bit set.
#[test]
fn lengths_are_laid_out_as_described() {
    for (length, prefix) in [
        (0, &[0][..]),
        (1, &[1]),
        (127, &[0x7f]),
        (128, &[0x80, 1]),
        (0x0155, &[0xd5, 2]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 1]),
    ] {
        let value = HeaderValue::from_str(&"v".repeat(length)).unwrap();
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, value)]);
        let record = encode_response(&fingerprint_1(), StatusCode::OK, &headers, all, b"body", None).unwrap();
        assert_eq!(record[57..57 + prefix.len()], *prefix, "{length}");
        let Content::Response(back) = decode(&record).unwrap() else { panic!("another kind") };
        assert_eq!((back.headers, &back.body[..]), (headers, &b"body"[..]), "{length}");
    }
}

#[test]
fn every_prefix_of_a_record_is_refused_or_is_a_shorter_body() {
    let (headers, trailers) = example();
    let whole = encode_response(&fingerprint_1(), StatusCode::OK, &headers, all, b"body", Some(&trailers)).unwrap();
    for length in 0..whole.len() {
        let prefix = whole.slice(..length);
        match decode(&prefix) {
            Err(error) => assert_eq!(error, DecodeError(Problem::Truncated), "at {length}"),
            Ok(_) => assert!(length >= whole.len() - 4, "at {length}"),
        }
    }
}

#[test]
fn what_is_not_a_record_is_refused_with_the_reason() {
    let with = |at: usize, bytes: &[u8]| {
        let (headers, _) = example();
        let mut record = encode_response(&fingerprint_1(), StatusCode::OK, &headers, all, b"", None).unwrap().to_vec();
        record[at..at + bytes.len()].copy_from_slice(bytes);
        decode(&record.into()).unwrap_err().0
    };
    assert_eq!(with(0, &[2]), Problem::Version(2));
    assert_eq!(with(1, &[9]), Problem::Kind(9));
    assert_eq!(with(1, &[0]), Problem::TrailingBytes);
    assert_eq!(with(50, &[0, 99]), Problem::Status);
    assert_eq!(with(56, &[0x7f]), Problem::Name);
    assert_eq!(with(58, b"\n"), Problem::Value);
    assert_eq!(with(57, &[0xff; 5]), Problem::Length);
    assert_eq!(with(57, &[0x80, 0x00]), Problem::Length);
    assert_eq!(with(57, &[0xff, 0xff, 0xff, 0xff, 0x10]), Problem::Length); // 2^32 and more
    assert_eq!(with(57, &[0xff, 0xff, 0xff, 0xff, 0x0f]), Problem::Truncated);
    assert_eq!(with(52, &[0xff, 0xff]), Problem::Truncated);
}

#[test]
fn the_reason_is_told_without_the_bytes() {
    assert_eq!(
        decode(&Bytes::from_static(b"secret")).unwrap_err().to_string(),
        "record layout version 115 is not known"
    );
    assert_eq!(decode(&Bytes::from_static(b"\x01")).unwrap_err().to_string(), "record ends too early");
}

/// The cheap form of the fuzz target: random bytes, and valid records with one byte changed, never panic, and what
/// decodes encodes to an equal response.
#[test]
fn decoding_is_total() {
    use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (headers, trailers) = example();
    let valid = encode_response(&fingerprint_1(), StatusCode::OK, &headers, all, b"body", Some(&trailers)).unwrap();
    let mut decoded = 0;
    for round in 0..200_000 {
        let mut input = if round % 4 == 0 { vec![0; random.random_range(0..200)] } else { valid.to_vec() };
        if round % 4 == 0 {
            random.fill_bytes(&mut input);
            input.splice(0..input.len().min(2), [1, 1]);
        } else {
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..input.len());
                input[at] = random.random();
            }
        }
        if let Ok(Content::Response(first)) = decode(&input.into()) {
            decoded += 1;
            let fingerprint = fingerprint_1();
            let again =
                encode_response(&fingerprint, first.status, &first.headers, all, &first.body, first.trailers.as_ref());
            let Ok(Content::Response(second)) = decode(&again.unwrap()) else { panic!("round trip") };
            assert_eq!(second.headers, first.headers);
            assert_eq!(second.trailers, first.trailers);
            assert_eq!(second.body, first.body);
        }
    }
    assert!(decoded > 1_000, "only {decoded} inputs got through: the test lost its teeth");
}

#[test]
fn only_the_kept_lines_are_counted_and_written() {
    let (headers, _) = example();
    let keeps = |name: &HeaderName| name != SET_COOKIE;
    let bytes = encode_response(&fingerprint_1(), StatusCode::OK, &headers, keeps, b"body", Some(&headers)).unwrap();
    let Content::Response(back) = decode(&bytes).unwrap() else { panic!("another kind") };
    assert_eq!(back.headers.keys().collect::<Vec<_>>(), ["content-type", "x-price"]);
    assert_eq!((&back.body[..], back.trailers), (&b"body"[..], Some(back.headers)));
}

/// A map has room for some 24,000 names, and for any number of lines with one name.
#[test]
fn as_many_lines_as_can_be_counted_come_back() {
    let mut headers = HeaderMap::new();
    for _ in 0..NO_TRAILERS - 1 {
        headers.append(SET_COOKIE, HeaderValue::from_static("a=1"));
    }
    let bytes = encode_response(&fingerprint_1(), StatusCode::OK, &headers, all, b"", Some(&headers)).unwrap();
    let Content::Response(back) = decode(&bytes).unwrap() else { panic!("another kind") };
    assert_eq!(back.headers, headers);
    assert_eq!(back.trailers, Some(headers.clone()));
    headers.append(SET_COOKIE, HeaderValue::from_static("a=1"));
    assert_eq!(encode_response(&fingerprint_1(), StatusCode::OK, &headers, all, b"", None), None);
}
