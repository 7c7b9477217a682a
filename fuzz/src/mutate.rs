//! Mutations: random ones, and those that speak the language of HTTP framing.

/// Bytes that parsers of any text stumble over.
const WORDS: [&[u8]; 12] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"0",
    b"\xff",
];

/// One of the seeds, changed in up to eight places, with words of the target's language.
pub fn mutated(seeds: &[&[u8]], words: &[&[u8]], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = seeds[random.usize(..seeds.len())].to_vec();
    for _ in 0..random.usize(0..8) {
        let at = random.usize(..=input.len());
        match random.u8(0..8) {
            0 if at < input.len() => input[at] ^= 1 << random.u8(0..8),
            1 if at < input.len() => input[at] = random.u8(..),
            2 => {
                let word = WORDS[random.usize(..WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
            6 | 7 if !words.is_empty() => {
                let word = words[random.usize(..words.len())];
                input.splice(at..at, word.iter().copied());
            }
            3 => {
                let end = (at + random.usize(0..16)).min(input.len());
                input.drain(at..end);
            }
            4 => {
                let other = seeds[random.usize(..seeds.len())];
                let from = random.usize(..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => {
                let end = (at + random.usize(0..32)).min(input.len());
                let copy = input[at..end].to_vec();
                input.splice(at..at, copy);
            }
        }
    }
    input
}
