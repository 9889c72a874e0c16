//! Generates text from a seed: sentences that read like a dull manual, and marker words that occur on only one page.
//!
//! The sentences consist of real words, so that a tokenizer and an embedder get realistic input. Each page has a
//! [`marker`], so that a test can search for one page and knows the only correct result.

/// Generates random numbers with SplitMix64. The numbers are not secure. The numbers for a seed never change, because
/// tests depend on them.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number from 0 to `end` - 1, or 0 if `end` is 0. The remainder of a division has a small bias, which
    /// does not matter here.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next_u64() % end).unwrap_or(0)
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words.get(self.below(words.len())).copied().unwrap_or_default()
    }
}

/// Returns a word of 16 letters that is unique to one page of one document. `page` counts from 1.
///
/// Each pair of seed and page has a different word, provided that the seed is below 2³² and the page is below 2¹⁶.
/// Each pair is mapped to a different scattered number of 48 bits, which is spelled in eight syllables. The words of
/// neighbouring pages therefore do not look alike.
pub fn marker(seed: u64, page: usize) -> String {
    const CONSONANTS: &[u8; 16] = b"bdfghjklmnprstvz";
    const VOWELS: &[u8; 4] = b"aeio";
    const BITS: u64 = (1 << 48) - 1;
    let page = u64::try_from(page).unwrap_or(u64::MAX);
    // Multiplication by an odd factor and xor with a shift by half the width are permutations of 48 bits.
    let mut code = ((seed & 0xffff_ffff) << 16 | (page & 0xffff)) & BITS;
    for factor in [0x5851_f42d_4c95, 0x2545_f491_4f6d] {
        code = code.wrapping_mul(factor) & BITS;
        code ^= code >> 24;
    }
    let mut word = String::with_capacity(16);
    for syllable in 0..8 {
        let six = (code >> (6 * syllable)) & 63;
        word.push(char::from(CONSONANTS[(six >> 2) as usize & 15]));
        word.push(char::from(VOWELS[six as usize & 3]));
    }
    word
}

const SUBJECTS: &[&str] = &[
    "the archive",
    "a reader",
    "the harbour board",
    "each committee",
    "the night shift",
    "an auditor",
    "the new pump",
    "the north lock",
    "a survey",
    "the contractor",
    "every station",
    "the insurer",
    "the registry",
    "a visitor",
    "the council",
    "the ferry company",
    "the laboratory",
    "a second opinion",
    "the workshop",
    "the librarian",
];
const VERBS: &[&str] = &[
    "measured",
    "replaced",
    "described",
    "questioned",
    "recorded",
    "delayed",
    "inspected",
    "approved",
    "collected",
    "compared",
    "rejected",
    "repaired",
    "published",
    "counted",
    "explained",
    "lost",
    "found",
    "sealed",
    "tested",
];
const OBJECTS: &[&str] = &[
    "the water level",
    "forty ledgers",
    "the annual figures",
    "a broken valve",
    "the tide tables",
    "two petitions",
    "the cost of dredging",
    "an old map",
    "the minutes of the meeting",
    "a shipment of timber",
    "the safety report",
    "the pilots' fees",
    "a row of samples",
    "the list of repairs",
    "the weight of the cargo",
    "an unsigned letter",
    "the drainage plan",
    "the lease of the east quay",
    "the temperature of the store",
    "a claim for damages",
];
const ENDS: &[&str] = &[
    "before the winter",
    "without giving a reason",
    "in spite of the weather",
    "for the third time this year",
    "as the rules require",
    "after a long discussion",
    "on behalf of the owners",
    "with better instruments",
    "while the gates were closed",
    "at half the usual price",
    "and sent a copy to the mayor",
    "in the last quarter",
    "according to the inspector",
    "although nobody had asked",
    "under the new contract",
    "for the first time",
];
const TOPICS: &[&str] = &[
    "Maintenance of the locks",
    "Water and weather",
    "Accounts and fees",
    "Notes on the archive",
    "Safety at the quay",
    "Petitions and replies",
    "Survey of the channel",
    "Contracts and claims",
    "The winter season",
    "Staff and training",
];

pub fn heading(chance: &mut Chance) -> String {
    chance.pick(TOPICS).to_owned()
}

pub fn sentence(chance: &mut Chance) -> String {
    let subject = chance.pick(SUBJECTS);
    let (verb, object, end) = (chance.pick(VERBS), chance.pick(OBJECTS), chance.pick(ENDS));
    let number = 2 + chance.below(97);
    let mut text = match chance.below(4) {
        0 => format!("{subject} {verb} {object} {end}."),
        1 => format!("{subject} {verb} {object} and {object_2} {end}.", object_2 = chance.pick(OBJECTS)),
        2 => format!("in {number} of a hundred cases {subject} {verb} {object}."),
        _ => format!("{end}, {subject} {verb} {object}; {subject_2} did not.", subject_2 = chance.pick(SUBJECTS)),
    };
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

pub fn paragraph(chance: &mut Chance, sentences: usize) -> String {
    (0..sentences).map(|_| sentence(chance)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn markers_never_meet() {
        let seeds = (0..2000).chain((0..32).map(|bit| 1 << bit)).chain([u64::from(u32::MAX)]);
        let seeds: HashSet<u64> = seeds.collect();
        let pages = [1, 2, 3, 4, 100, 5000, 65_535];
        let words: HashSet<String> =
            seeds.iter().flat_map(|&seed| pages.iter().map(move |&page| marker(seed, page))).collect();
        assert_eq!(words.len(), seeds.len() * pages.len());
        assert!(words.iter().all(|word| word.len() == 16 && word.bytes().all(|b| b.is_ascii_lowercase())));
    }

    #[test]
    fn the_output_of_a_seed_never_changes() {
        // Stored expectations and benchmarks depend on these values.
        assert_eq!(Chance::new(0).next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(marker(1, 1), "gonakonozijinora");
        assert_eq!(
            sentence(&mut Chance::new(7)),
            "The north lock explained the cost of dredging and the temperature of the store in the last quarter."
        );
    }
}
