//! Feeds damaged inputs to a reader. The reader may refuse an input, but it must not panic, hang or exhaust memory.
//!
//! Inputs are mutations of valid files. `DOCWEIR_TEST_FUZZ_SECONDS` makes a test run for a time instead of a number of
//! inputs, and `DOCWEIR_TEST_SEED` starts it with another seed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Processor time after which a reader counts as hung, on one input of at most [`MAX_BYTES`].
const HUNG: Duration = Duration::from_secs(20);
const MAX_BYTES: usize = 1 << 20;

/// Calls `reader` with `inputs` mutations of the seeds. `words` are tokens of the format, which are inserted now and then.
///
/// # Panics
/// Panics if the reader panics or takes too long. The message names the seed of the input, and a file with the input.
pub fn fuzz(name: &str, inputs: u64, seeds: &[Vec<u8>], words: &[&str], reader: impl Fn(&[u8])) {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("DOCWEIR_TEST_SEED").unwrap_or_default();
    let end = number("DOCWEIR_TEST_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut seed = first;
    while end.map_or(seed < first + inputs, |end| Instant::now() < end) {
        let input =
            Mutator { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d }.mutate(seeds, words);
        let began = Instant::now();
        let survived = catch_unwind(AssertUnwindSafe(|| reader(&input))).is_ok();
        // On a loaded machine, the clock on the wall says little.
        let took = if began.elapsed() > HUNG { processor_time(|| reader(&input)) } else { Duration::ZERO };
        if !survived || took > HUNG {
            let kept = std::env::temp_dir().join(format!("docweir-fuzz-{name}-{seed}"));
            let kept = std::fs::write(&kept, &input).map_or_else(|e| e.to_string(), |()| kept.display().to_string());
            let what = if survived { format!("took {took:?}") } else { "panicked".to_owned() };
            panic!("{name}: the reader {what} on the input of seed {seed}: {kept}");
        }
        seed += 1;
    }
    println!("{name}: {} inputs", seed - first);
}

/// Returns the processor time of a call, or zero if the system does not report it. A panic is ignored.
fn processor_time(call: impl Fn()) -> Duration {
    let used = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Duration::from_nanos(text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default())
    };
    let before = used();
    let _ = catch_unwind(AssertUnwindSafe(call));
    used().saturating_sub(before)
}

/// Changes inputs at random. The same state gives the same input.
struct Mutator {
    state: u64,
}

impl Mutator {
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % (n.max(1) as u64)).unwrap_or_default()
    }

    fn mutate(&mut self, seeds: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
        let mut input = self.one_of(seeds);
        for _ in 0..=self.below(6) {
            self.change(&mut input, seeds, words);
        }
        input.truncate(MAX_BYTES);
        input
    }

    fn one_of(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        seeds.get(self.below(seeds.len())).cloned().unwrap_or_default()
    }

    /// Returns a part of a list of this length, of at most 64 elements or now and then of any size.
    fn part(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = if self.below(8) == 0 { length } else { 64 };
        start..(start + self.below(most + 1)).min(length)
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
        const NUMBERS: [&str; 14] = [
            "0",
            "-1",
            "1",
            "4294967295",
            "4294967296",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
            "1e308",
            "1e999",
            "-0",
            "NaN",
            "0.1",
        ];
        const INTEGERS: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];
        let at = self.below(input.len());
        match self.below(10) {
            0 => {
                let bit = 1 << self.below(8);
                input.get_mut(at).into_iter().for_each(|byte| *byte ^= bit);
            }
            1 => {
                let new = self.next() as u8;
                input.get_mut(at).into_iter().for_each(|byte| *byte = new);
            }
            // An integer of 1, 2, 4 or 8 bytes.
            2 => {
                let (bytes, size) = (INTEGERS[self.below(8)].to_le_bytes(), 1 << self.below(4));
                let end = (at + size).min(input.len());
                input.splice(at..end, bytes.into_iter().take(end - at));
            }
            // A number in text.
            3 => {
                let digits = |byte: &u8| byte.is_ascii_digit();
                if let Some(start) = input.iter().skip(at).position(digits).map(|n| at + n) {
                    let end = start + input.iter().skip(start).take_while(|b| digits(b)).count();
                    input.splice(start..end, NUMBERS[self.below(NUMBERS.len())].bytes());
                }
            }
            4 => drop(input.drain(self.part(input.len()))),
            5 => input.truncate(at),
            // A part of the input a second time, or several times.
            6 => {
                let part = self.part(input.len());
                let copy = input.get(part).unwrap_or_default().repeat(1 << self.below(5));
                input.splice(at..at, copy);
            }
            // A part of another seed.
            7 => {
                let other = self.one_of(seeds);
                let (from, to) = (self.part(other.len()), self.part(input.len()));
                input.splice(to, other.get(from).unwrap_or_default().iter().copied());
            }
            8 => {
                let word = words.get(self.below(words.len())).copied().unwrap_or("\0");
                let end = if self.below(2) == 0 { at } else { (at + word.len()).min(input.len()) };
                input.splice(at..end, word.bytes().cycle().take(word.len() << self.below(6)));
            }
            _ => {
                let noise: Vec<u8> = (0..self.below(16)).map(|_| self.next() as u8).collect();
                input.splice(at..at, noise);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_differ_and_can_be_repeated() {
        let seeds = [b"{\"a\": 12, \"b\": [1, 2, 3]}".to_vec(), Vec::new()];
        let input = |state| Mutator { state }.mutate(&seeds, &["[", "\"a\""]);
        let different: std::collections::HashSet<_> = (0..500).map(input).collect();
        assert!(different.len() > 300, "{}", different.len());
        assert!((0..500).all(|state| input(state) == input(state)));
    }

    #[test]
    #[should_panic(expected = "fragile: the reader panicked on the input of seed")]
    fn a_reader_that_panics_is_found() {
        fuzz("fragile", 20_000, &[b"12345678".to_vec()], &[], |input| assert!(input.contains(&b'5'), "no five"));
    }
}
