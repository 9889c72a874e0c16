//! Lists stop words by language: frequent words that say nothing about the topic. The lists are sorted for binary
//! search.

/// Returns the stop words for an ISO 639-3 language code, or an empty list for other languages.
pub fn of(code: &str) -> &'static [&'static str] {
    match code {
        "eng" => ENGLISH,
        "deu" => GERMAN,
        "fra" => FRENCH,
        "spa" => SPANISH,
        _ => &[],
    }
}

#[rustfmt::skip]
const ENGLISH: &[&str] = &[
    "a", "about", "above", "according", "across", "after", "again", "against", "all", "almost", "along", "already",
    "also", "although", "always", "am", "among", "an", "and", "another", "any", "anyone", "anything", "are", "around",
    "as", "at", "away", "back", "be", "became", "because", "become", "been", "before", "being", "below", "between",
    "both", "but", "by", "came", "can", "can't", "cannot", "come", "could", "did", "didn't", "do", "does", "doesn't",
    "doing", "don't", "done", "down", "due", "during", "e.g", "each", "either", "else", "enough", "etc", "even",
    "ever", "every", "example", "few", "first", "for", "found", "from", "further", "gave", "get", "give", "given",
    "go", "got", "had", "has", "have", "having", "he", "hence", "her", "here", "hers", "herself", "him", "himself",
    "his", "how", "however", "i", "i.e", "if", "in", "indeed", "instead", "into", "is", "isn't", "it", "it's", "its",
    "itself", "just", "keep", "last", "least", "less", "let", "like", "made", "mainly", "make", "many", "may", "me",
    "might", "more", "most", "much", "must", "my", "myself", "namely", "near", "need", "neither", "never", "new",
    "next", "no", "nobody", "none", "nor", "not", "nothing", "now", "of", "off", "often", "on", "once", "one", "only",
    "onto", "or", "other", "others", "otherwise", "our", "ours", "ourselves", "out", "over", "own", "per", "perhaps",
    "put", "quite", "rather", "re", "really", "said", "same", "say", "see", "seem", "seemed", "seems", "several",
    "shall", "she", "should", "show", "shown", "since", "so", "some", "something", "soon", "still", "such", "take",
    "than", "that", "that's", "the", "their", "theirs", "them", "themselves", "then", "there", "thereby", "therefore",
    "these", "they", "this", "those", "though", "through", "thus", "to", "together", "too", "toward", "towards",
    "two", "under", "until", "up", "upon", "us", "use", "used", "uses", "using", "various", "very", "via", "was",
    "way", "we", "we're", "well", "were", "what", "whatever", "when", "where", "whereas", "whether", "which", "while",
    "who", "whole", "whom", "whose", "why", "will", "with", "within", "without", "would", "yes", "yet", "you", "your",
    "yours", "yourself",
];

#[rustfmt::skip]
const GERMAN: &[&str] = &[
    "aber", "alle", "allem", "allen", "aller", "alles", "als", "also", "am", "an", "ander", "andere", "anderem",
    "anderen", "anderer", "anderes", "auch", "auf", "aus", "bei", "bereits", "bin", "bis", "bist", "bzw", "da",
    "dabei", "dadurch", "dafür", "dagegen", "daher", "damit", "dann", "daran", "darauf", "daraus", "darf", "das",
    "dass", "davon", "dazu", "dein", "deine", "dem", "den", "denn", "der", "deren", "des", "dessen", "die", "dies",
    "diese", "diesem", "diesen", "dieser", "dieses", "doch", "dort", "du", "durch", "ebenso", "ein", "eine", "einem",
    "einen", "einer", "eines", "einige", "einigen", "er", "es", "etwa", "etwas", "euch", "euer", "für", "gegen",
    "gewesen", "hab", "habe", "haben", "hat", "hatte", "hatten", "hier", "hin", "hinter", "ich", "ihm", "ihn",
    "ihnen", "ihr", "ihre", "ihrem", "ihren", "ihrer", "im", "immer", "in", "indem", "ins", "ist", "ja", "jede",
    "jedem", "jeden", "jeder", "jedes", "jedoch", "jene", "jetzt", "kann", "kein", "keine", "keinem", "keinen",
    "keiner", "können", "könnte", "man", "manche", "mehr", "mein", "meine", "mich", "mir", "mit", "muss", "müssen",
    "nach", "nicht", "nichts", "noch", "nun", "nur", "ob", "oder", "ohne", "sehr", "sein", "seine", "seinem",
    "seinen", "seiner", "seit", "selbst", "sich", "sie", "sind", "so", "sogar", "solche", "soll", "sollte", "sondern",
    "sonst", "sowie", "um", "und", "uns", "unser", "unsere", "unter", "viel", "vom", "von", "vor", "wann", "war",
    "waren", "warum", "was", "weil", "weiter", "welche", "welchem", "welchen", "welcher", "wenn", "wer", "werde",
    "werden", "wie", "wieder", "will", "wir", "wird", "wo", "wurde", "wurden", "während", "würde", "würden", "zu",
    "zum", "zur", "zwar", "zwischen", "über",
];

#[rustfmt::skip]
const FRENCH: &[&str] = &[
    "a", "afin", "ai", "ainsi", "alors", "après", "au", "aucun", "aussi", "autre", "autres", "aux", "avait", "avant",
    "avec", "avoir", "bien", "c'est", "car", "ce", "ceci", "cela", "celle", "celles", "celui", "ces", "cet", "cette",
    "ceux", "chaque", "chez", "comme", "comment", "contre", "d'un", "d'une", "dans", "de", "depuis", "des", "deux",
    "donc", "dont", "du", "elle", "elles", "en", "encore", "entre", "est", "et", "eu", "eux", "faire", "fait", "fois",
    "font", "il", "ils", "je", "jusque", "l'on", "la", "le", "les", "leur", "leurs", "lors", "lui", "mais", "me",
    "mes", "moins", "mon", "même", "ne", "ni", "nos", "notre", "nous", "on", "ont", "ou", "où", "par", "parce", "pas",
    "pendant", "peu", "peut", "plus", "pour", "pourquoi", "près", "qu'elle", "qu'il", "quand", "que", "quel",
    "quelle", "quelles", "quels", "qui", "sa", "sans", "se", "selon", "sera", "ses", "si", "son", "sont", "sous",
    "sur", "ta", "tandis", "te", "tels", "tous", "tout", "toute", "toutes", "trop", "très", "tu", "un", "une", "vers",
    "vos", "votre", "vous", "y", "à", "été", "être",
];

#[rustfmt::skip]
const SPANISH: &[&str] = &[
    "a", "al", "algo", "algunas", "algunos", "ante", "antes", "aquel", "aquella", "aquí", "así", "aunque", "bajo",
    "bien", "cada", "casi", "como", "con", "contra", "cual", "cuando", "de", "del", "desde", "donde", "dos",
    "durante", "e", "el", "ella", "ellas", "ellos", "en", "entre", "era", "eran", "es", "esa", "esas", "ese", "eso",
    "esos", "esta", "estaba", "estado", "estas", "este", "esto", "estos", "está", "están", "fue", "fueron", "ha",
    "haber", "había", "han", "hasta", "hay", "la", "las", "le", "les", "lo", "los", "me", "mientras", "mismo",
    "mucho", "muy", "más", "ni", "no", "nos", "nosotros", "nuestra", "nuestro", "o", "otra", "otras", "otro", "otros",
    "para", "pero", "poco", "por", "porque", "puede", "pueden", "pues", "que", "quien", "se", "sea", "según", "ser",
    "si", "sido", "sin", "sobre", "solo", "son", "su", "sus", "también", "tan", "tanto", "te", "tiene", "tienen",
    "todo", "todos", "tu", "un", "una", "uno", "unos", "y", "ya", "yo", "él",
];

#[cfg(test)]
mod tests {
    #[test]
    fn every_list_is_sorted_and_lower_case() {
        for code in ["eng", "deu", "fra", "spa"] {
            let list = super::of(code);
            assert!(!list.is_empty() && list.is_sorted(), "{code}");
            assert!(list.iter().all(|w| w.to_lowercase() == *w), "{code}");
        }
    }
}
