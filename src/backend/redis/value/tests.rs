use super::*;

/// A completed response as this crate wrote it on the day when the layout was made: a release that cannot read it
/// forgets every record.
const FROM_THE_FIRST_DAY: &str = concat!(
    "49444d503143",                     // IDMP1C
    "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", // the token
    "0102",                             // a record of layout 1 that holds a value
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f",
    "68656c6c6f", // hello
);

fn token() -> Token {
    Token::from_bytes(std::array::from_fn(|i| 0xa0 + u8::try_from(i).unwrap()))
}

fn fingerprint() -> Fingerprint {
    Fingerprint::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()))
}

fn record() -> Record {
    Record::value(&fingerprint(), b"hello")
}

fn completed(record: &Record) -> Vec<u8> {
    let mut command = Cmd::new();
    write_completed(&mut command, token(), record);
    match command.args_iter().next() {
        Some(redis::Arg::Simple(argument)) => argument.to_vec(),
        other => panic!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn a_claim_comes_back() {
    let value = claim(token(), &fingerprint());
    assert_eq!(decode(value.to_vec()), Ok(Stored::InProgress { token: token(), fingerprint: fingerprint() }));
}

#[test]
fn the_bytes_of_a_claim_are_pinned() {
    let expected = "49444d503150a0a1a2a3a4a5a6a7a8a9aaabacadaeaf\
                    000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f";
    assert_eq!(hex(&claim(token(), &fingerprint())), expected);
}

#[test]
fn the_bytes_of_a_record_are_pinned() {
    assert_eq!(hex(&completed(&record())), FROM_THE_FIRST_DAY);
}

#[test]
fn a_record_from_the_first_day_can_be_read() {
    assert_eq!(decode(unhex(FROM_THE_FIRST_DAY)), Ok(Stored::Completed(record())));
}

#[test]
fn a_record_shares_the_memory_of_the_value_it_was_read_from() {
    let value = completed(&record());
    let bytes = value.as_ptr_range();
    let Ok(Stored::Completed(record)) = decode(value) else { panic!("not a record") };
    assert!(bytes.contains(&record.to_bytes().as_ptr()));
}

#[test]
fn the_scripts_compare_a_header_that_every_value_of_its_token_begins_with() {
    assert!(claim(token(), &fingerprint()).starts_with(&claim_header(token())));
    assert_eq!(claim_header(token()).len(), 22, "the scripts read bytes 0 to 21");
    assert_eq!(completed(&record())[..HEADER], header(State::Completed, token()));
}

#[test]
fn no_value_that_was_cut_short_can_be_read() {
    for whole in [claim(token(), &fingerprint()).to_vec(), completed(&Record::tombstone(&fingerprint()))] {
        for length in 0..whole.len() {
            assert!(decode(whole[..length].to_vec()).is_err(), "{length} of {} bytes", whole.len());
        }
    }
}

#[test]
fn no_claim_that_goes_on_after_its_end_can_be_read() {
    let mut value = claim(token(), &fingerprint()).to_vec();
    value.push(0);
    assert_eq!(decode(value), Err(Unreadable::Length));
}

/// A changed byte is told, or it is one of the token, the fingerprint or the record's content, which any bytes can be.
#[test]
fn no_changed_byte_makes_another_kind_of_value() {
    let fixed = MAGIC.len() + 2;
    for whole in [claim(token(), &fingerprint()).to_vec(), completed(&record())] {
        for (i, bit) in (0..whole.len()).flat_map(|i| (0..8).map(move |bit| (i, bit))) {
            let mut value = whole.clone();
            value[i] ^= 1 << bit;
            let record_head = whole[5] == b'C' && (HEADER..HEADER + 2).contains(&i);
            match (decode(value), whole[5]) {
                (Err(_), _) => assert!(i < fixed || record_head, "byte {i} does not matter to anybody"),
                (Ok(Stored::InProgress { .. }), b'P') | (Ok(Stored::Completed(_)), b'C') => assert!(i >= fixed),
                (Ok(other), _) => panic!("byte {i}, bit {bit}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_newer_layout_says_so() {
    let mut value = completed(&record());
    value[4] = b'2';
    let error = decode(value).unwrap_err();
    assert_eq!((error, error.to_string()), (Unreadable::Version(b'2'), "value layout version '2' is not known".into()));
}

#[test]
fn random_bytes_are_read_without_a_panic() {
    let seed = std::env::var("VALUE_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("VALUE_SEED={seed}");
    let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
    for _ in 0..10_000 {
        let mut value = completed(&record());
        value.truncate(rand::RngExt::random_range(&mut random, 0..=value.len()));
        for _ in 0..3 {
            if let Some(last) = value.len().checked_sub(1) {
                let i = rand::RngExt::random_range(&mut random, 0..=last);
                value[i] = rand::RngExt::random(&mut random);
            }
        }
        let _ = decode(value);
    }
}
