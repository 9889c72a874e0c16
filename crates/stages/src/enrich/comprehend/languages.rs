//! Maps Comprehend's language codes (RFC 5646) to Docweir's language codes (ISO 639-3).

/// Languages in which Comprehend finds entities, key phrases and sentiment.
pub const KNOWN: &[&str] = &["ar", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "pt", "zh", "zh-TW"];

/// Languages in which Comprehend finds personal data.
pub const KNOWN_PERSONAL: &[&str] = &["en", "es"];

/// Comprehend's two-letter language codes with their ISO 639-3 codes. If two entries share an ISO code, requests use
/// the first of them.
#[rustfmt::skip]
const CODES: &[(&str, &str)] = &[
    ("af", "afr"), ("am", "amh"), ("ar", "ara"), ("as", "asm"), ("az", "aze"), ("ba", "bak"), ("be", "bel"),
    ("bg", "bul"), ("bn", "ben"), ("bs", "bos"), ("ca", "cat"), ("cs", "ces"), ("cv", "chv"), ("cy", "cym"),
    ("da", "dan"), ("de", "deu"), ("el", "ell"), ("en", "eng"), ("eo", "epo"), ("es", "spa"), ("et", "est"),
    ("eu", "eus"), ("fa", "pes"), ("fi", "fin"), ("fr", "fra"), ("ga", "gle"), ("gd", "gla"), ("gl", "glg"),
    ("gu", "guj"), ("ha", "hau"), ("he", "heb"), ("hi", "hin"), ("hr", "hrv"), ("ht", "hat"), ("hu", "hun"),
    ("hy", "hye"), ("id", "ind"), ("is", "isl"), ("it", "ita"), ("ja", "jpn"), ("jv", "jav"), ("ka", "kat"),
    ("kk", "kaz"), ("km", "khm"), ("kn", "kan"), ("ko", "kor"), ("ku", "kur"), ("ky", "kir"), ("la", "lat"),
    ("lb", "ltz"), ("lo", "lao"), ("lt", "lit"), ("lv", "lav"), ("mg", "mlg"), ("mk", "mkd"), ("ml", "mal"),
    ("mn", "mon"), ("mr", "mar"), ("ms", "msa"), ("mt", "mlt"), ("my", "mya"), ("ne", "nep"), ("nl", "nld"),
    ("no", "nob"), ("om", "orm"), ("or", "ori"), ("pa", "pan"), ("pl", "pol"), ("ps", "pus"), ("pt", "por"),
    ("qu", "que"), ("ro", "ron"), ("ru", "rus"), ("sa", "san"), ("sd", "snd"), ("si", "sin"), ("sk", "slk"),
    ("sl", "slv"), ("so", "som"), ("sq", "sqi"), ("sr", "srp"), ("su", "sun"), ("sv", "swe"), ("sw", "swa"),
    ("ta", "tam"), ("te", "tel"), ("tg", "tgk"), ("th", "tha"), ("tk", "tuk"), ("tl", "tgl"), ("tr", "tur"),
    ("tt", "tat"), ("ug", "uig"), ("uk", "ukr"), ("ur", "urd"), ("uz", "uzb"), ("vi", "vie"), ("yi", "yid"),
    ("yo", "yor"), ("zh", "cmn"), ("zh-TW", "cmn"),
];

/// Returns the ISO 639-3 code for a language code of Comprehend. For a code that is not in the list, returns its part
/// before the first hyphen, because such codes already have three letters.
pub fn ours(theirs: &str) -> String {
    let known = CODES.iter().find(|(code, _)| *code == theirs).map(|(_, code)| *code);
    known.unwrap_or_else(|| theirs.split('-').next().unwrap_or(theirs)).to_owned()
}

/// Returns Comprehend's code for an ISO 639-3 code. If the list has no such entry, returns the ISO code unchanged.
pub fn theirs(ours: &str) -> String {
    CODES.iter().find(|(_, code)| *code == ours).map_or(ours, |(code, _)| code).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_both_ways() {
        assert!(CODES.is_sorted() && KNOWN.is_sorted());
        for (two, three) in CODES.iter().filter(|(two, _)| *two != "zh-TW") {
            assert_eq!((ours(two).as_str(), theirs(three).as_str()), (*three, *two));
        }
        assert_eq!(
            (ours("zh-TW"), ours("ceb"), theirs("ceb"), ours("pt-BR")),
            ("cmn".into(), "ceb".into(), "ceb".into(), "pt".into())
        );
        assert!(KNOWN.iter().all(|code| CODES.iter().any(|(two, _)| two == code)));
    }
}
