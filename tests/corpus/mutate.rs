//! Random changes of inputs: what libFuzzer does, without its memory.

use rand::{Rng, RngExt};

/// Longer inputs find nothing that shorter ones do not.
const LONGEST: usize = 4096;

/// Bytes at which something changes: lengths, signs, quotes.
const SPECIAL: [u8; 12] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\\', b'\n', b' ', b'{', b'[', b'0'];

/// One input of `corpus` with up to eight changes.
pub(crate) fn changed(corpus: &[Vec<u8>], random: &mut impl Rng) -> Vec<u8> {
    let mut input = corpus[random.random_range(0..corpus.len())].clone();
    for _ in 0..random.random_range(1..=8) {
        change(&mut input, corpus, random);
    }
    input.truncate(LONGEST);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut impl Rng) {
    let at = random.random_range(0..=input.len());
    let end = random.random_range(at..=input.len().min(at + 32));
    match random.random_range(0..8) {
        0 => input.insert(at, random.random()),
        1 => input.insert(at, SPECIAL[random.random_range(0..SPECIAL.len())]),
        2 => drop(input.drain(at..end)),
        3 => input.extend_from_within(at..end),
        4 => {
            let other = &corpus[random.random_range(0..corpus.len())];
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ if at == input.len() => {}
        5 => input[at] ^= 1 << random.random_range(0..8),
        6 => input[at] = random.random(),
        _ => input[at] = SPECIAL[random.random_range(0..SPECIAL.len())],
    }
}
