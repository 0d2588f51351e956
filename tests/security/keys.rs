//! Keys that are made to collide.

use std::{collections::HashSet, time::Duration};

use tower_idempotency::{Backend, Claim, Fingerprint, Key, MemoryBackend, Token};

/// A hundred texts that run into each other: of two letters and a zero byte, what the lengths before them look like, and
/// what stores and protocols treat in a way of their own.
fn texts() -> Vec<String> {
    let mut texts = vec![String::new()];
    let mut longest = texts.clone();
    for _ in 0..3 {
        longest = longest.iter().flat_map(|text| ["\0", "a", "b"].map(|more| text.clone() + more)).collect();
        texts.extend(longest.iter().cloned());
    }
    let length = |length: u8| format!("\0\0\0\0\0\0\0{}", char::from(length));
    for number in 0..15 {
        texts.push(length(number));
        texts.push(length(number) + "a");
        texts.push(length(1) + "\x01" + &length(number));
    }
    texts.extend(
        ["{tag}", "{tag}a", ":", "a:", ":a", "a:b", "\r\n", "%61", "A", "\u{e9}", "e\u{301}"].map(str::to_owned),
    );
    let further = (0..).map(|number| format!("order-{number}"));
    let missing = 100 - texts.len();
    texts.extend(further.take(missing));
    texts
}

#[test]
fn of_a_million_namespaces_scopes_and_texts_no_two_share_a_key() {
    let texts = texts();
    assert_eq!(texts.iter().collect::<HashSet<_>>().len(), 100, "no text comes twice");
    let mut keys = HashSet::with_capacity(1_010_000);
    for namespace in &texts {
        for text in &texts {
            assert!(keys.insert(*Key::new(namespace, text).as_bytes()), "{namespace:?} {text:?}");
            for scope in &texts {
                let key = Key::scoped(namespace, scope, text);
                assert!(keys.insert(*key.as_bytes()), "{namespace:?} {scope:?} {text:?}");
            }
        }
    }
    assert_eq!(keys.len(), 1_010_000);
}

/// Digests that begin alike can be searched for. A store of 64 parts with room for 1,024 claims each takes far more of
/// them than one part could hold, because a seed of the process decides where they go.
#[tokio::test]
async fn keys_that_begin_and_end_alike_do_not_crowd_one_part_of_the_memory() {
    let backend = MemoryBackend::with_limits(64 * 1024, 64 << 23);
    for number in 0..8_192_u16 {
        let mut key = [0xab; Key::LEN];
        key[15..17].copy_from_slice(&number.to_be_bytes());
        let (key, fingerprint) = (Key::from_bytes(key), Fingerprint::of(""));
        let claim = backend.claim(&key, Token::random(), &fingerprint, Duration::from_secs(60));
        assert_eq!(claim.await.unwrap(), Claim::Acquired, "claim {number}");
    }
    assert_eq!(backend.len(), 8_192);
}
