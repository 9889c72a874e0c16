use encoding_rs::{
    BIG5, EUC_JP, EUC_KR, GBK, IBM866, ISO_8859_2, ISO_8859_5, ISO_8859_7, KOI8_R, SHIFT_JIS, WINDOWS_874,
    WINDOWS_1250, WINDOWS_1251, WINDOWS_1252, WINDOWS_1253, WINDOWS_1254, WINDOWS_1255, WINDOWS_1256,
};
use proptest::prelude::*;

use super::*;

const RUSSIAN: &str = "Паром отходит от причала в семь утра. Билеты продаёт кассир у входа, багаж принимают заранее.";
const UKRAINIAN: &str = "Ліхтар на вежі світить щоночі, а доглядач записує погоду в зошит. Їжу привозять щотижня.";
const CHINESE: &str = "渡船每天早上七点从码头出发，乘客需要提前半小时到达。行李由工作人员登记，儿童半价。";
const TAIWAN: &str = "渡輪每天早上七點從碼頭出發，乘客需要提前半小時到達。行李由工作人員登記，兒童半價。";
const JAPANESE: &str = "渡し船は毎朝七時に桟橋を出ます。乗客は三十分前までに来てください。荷物は係の者が預かります。";
const KOREAN: &str = "나룻배는 매일 아침 일곱 시에 부두를 떠납니다. 승객은 삼십 분 전까지 와야 합니다.";
const GREEK: &str = "Το πλοίο φεύγει από την προβλήτα στις επτά το πρωί. Τα εισιτήρια πωλούνται στην είσοδο.";
const FRENCH: &str =
    "Le bac quitte l’embarcadère à sept heures ; les élèves âgés de moins de dix ans voyagent à moitié prix.";
const GERMAN: &str =
    "Die Fähre fährt täglich um sieben; für Schüler gilt der ermäßigte Preis, und Gepäck kostet zwölf €.";
const POLISH: &str =
    "Prom odpływa z przystani o siódmej rano. Bilety są w kasie, a bagaż przyjmuje się wcześniej, także łódź i żagle.";
const CZECH: &str =
    "Přívoz odjíždí z mola v sedm hodin ráno. Žáci platí poloviční jízdné a zavazadla přijímá průvodčí.";
const TURKISH: &str =
    "Feribot sabah yedide iskeleden kalkıyor. Öğrenciler yarım ücret öder, bagaj ise girişte teslim alınır.";
const HEBREW: &str = "המעבורת יוצאת מהרציף בשבע בבוקר. כרטיסים נמכרים בכניסה, ומטען נמסר מראש לעובד.";
const ARABIC: &str = "تغادر العبارة الرصيف في الساعة السابعة صباحا. تباع التذاكر عند المدخل وتسلم الأمتعة مسبقا.";
const THAI: &str = "เรือข้ามฟากออกจากท่าเวลาเจ็ดโมงเช้า ผู้โดยสารควรมาก่อนครึ่งชั่วโมง และฝากสัมภาระไว้กับพนักงาน";

fn encoded(text: &str, encoding: &'static Encoding) -> Vec<u8> {
    let (bytes, _, lost) = encoding.encode(text);
    assert!(!lost, "{} has no character for this text", encoding.name());
    bytes.into_owned()
}

fn text_of(bytes: &[u8]) -> String {
    decode(bytes).unwrap().text
}

#[test]
fn texts_in_many_encodings_are_read_and_the_guess_is_noted() {
    let table: &[(&str, &'static Encoding)] = &[
        (RUSSIAN, WINDOWS_1251),
        (RUSSIAN, KOI8_R),
        (RUSSIAN, IBM866),
        (RUSSIAN, ISO_8859_5),
        (UKRAINIAN, WINDOWS_1251),
        (CHINESE, GBK),
        (TAIWAN, BIG5),
        (JAPANESE, SHIFT_JIS),
        (JAPANESE, EUC_JP),
        (JAPANESE, ISO_2022_JP),
        (KOREAN, EUC_KR),
        (GREEK, WINDOWS_1253),
        (GREEK, ISO_8859_7),
        (FRENCH, WINDOWS_1252),
        (GERMAN, WINDOWS_1252),
        (POLISH, WINDOWS_1250),
        (POLISH, ISO_8859_2),
        ("Prom odpływa z mola. Bilety są w kasie, także łódź.", ISO_8859_2),
        (CZECH, WINDOWS_1250),
        (TURKISH, WINDOWS_1254),
        (HEBREW, WINDOWS_1255),
        (ARABIC, WINDOWS_1256),
        (THAI, WINDOWS_874),
    ];
    let english = "The harbour office keeps this record. ";
    for (text, encoding) in table {
        for text in [(*text).to_owned(), format!("{}{text}\n", english.repeat(20)), format!("{text}\n").repeat(400)] {
            let decoded = decode(&encoded(&text, encoding)).unwrap_or_else(|e| panic!("{}: {e}", encoding.name()));
            assert_eq!(decoded.text, text, "{} of {} bytes: {:?}", encoding.name(), text.len(), decoded.notes);
            assert_eq!(decoded.notes.len(), 1);
            assert!(decoded.notes[0].contains("guessed as"), "{:?}", decoded.notes);
        }
    }
}

#[test]
fn a_few_accents_or_symbols_in_an_english_text_are_western() {
    for text in ["It was 12 °C, 5 µg, £ 3.", "A naïve idea.", "“It’s” – fine…", "The café is open, at 2½ £."]
    {
        assert_eq!(text_of(&encoded(text, WINDOWS_1252)), text);
    }
}

#[test]
fn a_few_stray_bytes_leave_the_rest_of_a_text_as_it_is() {
    let lead = "Été comme hiver, la tempête déplace la bouée.\nDeuxième ligne : le préposé a noté la dérive.\n";
    let stray = [lead.as_bytes(), b"Troisi\xe8me ligne."].concat();
    let decoded = decode(&stray).unwrap();
    assert_eq!(decoded.text, format!("{lead}Troisi\u{fffd}me ligne."));
    let place = format!("1 bytes, the first one is byte {} on line 3", lead.len() + 7);
    assert!(decoded.notes[0].contains(&place), "{:?}", decoded.notes);
    // A long text may have more of them, but never many.
    let long = [lead.repeat(200).as_bytes(), &b"\xe8 "[..].repeat(12)].concat();
    assert!(text_of(&long).starts_with(lead));
    let mixed = [lead.repeat(2).as_bytes(), &b"d\xe9j\xe0 vu \xe0 c\xf4t\xe9 "[..].repeat(3)].concat();
    let refused = decode(&mixed).unwrap_err();
    assert_eq!(refused.code, "unknown_encoding", "half of the text would be garbled: {:?}", decode(&mixed));
}

#[test]
fn byte_order_marks_decide() {
    let units = |text: &str, unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(unit).collect()
    };
    let wide = |text: &str, unit: fn(u32) -> [u8; 4]| -> Vec<u8> {
        std::iter::once('\u{feff}').chain(text.chars()).flat_map(|c| unit(c.into())).collect()
    };
    for text in [GERMAN, CHINESE, "x"] {
        for bytes in [
            units(text, u16::to_le_bytes),
            units(text, u16::to_be_bytes),
            wide(text, u32::to_le_bytes),
            wide(text, u32::to_be_bytes),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        ] {
            let decoded = decode(&bytes).unwrap();
            assert_eq!((decoded.text.trim_start_matches('\u{feff}'), decoded.notes.len()), (text, 0));
        }
    }
    let mut cut = units(GERMAN, u16::to_le_bytes);
    cut.pop();
    assert_eq!(decode(&cut).unwrap().notes.len(), 1, "half a character is replaced, with a note");
    assert_eq!(decode(b"\xff\xfe\x00\xd8\x01\xd8\x02\xd8\x03\xd8").unwrap_err().code, "unknown_encoding");
}

#[test]
fn utf_16_without_a_mark_is_recognised_where_it_is_certain() {
    for text in [FRENCH, RUSSIAN, GREEK, CHINESE, JAPANESE, KOREAN, HEBREW, ARABIC, THAI, "key,value\r\n1,2\r\n"] {
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [little, big] {
            let decoded = decode(&bytes).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(decoded.text, text);
            assert!(decoded.notes[0].contains("UTF-16"), "{:?}", decoded.notes);
            // The beginning of a file shows the same, even if it ends inside a character.
            let half = family(&bytes[..bytes.len() / 2 + 1], true);
            assert!(matches!(half, Some(Family::Utf16 { marked: false, .. })), "{text}: {half:?}");
        }
    }
}

#[test]
fn what_is_no_text_or_in_no_known_encoding_is_refused() {
    let mut records = Vec::new();
    (0..200u32).for_each(|n| records.extend((n * 77).to_le_bytes()));
    let noise: Vec<u8> = (0..600u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 | 0x80).collect();
    for (bytes, code) in [
        (&records[..], "not_text"),
        (b"a\0b", "not_text"),
        (b"\x01\x02\x03 \x04\x05 text", "not_text"),
        (&noise, "unknown_encoding"),
        // French in code page 850 and German in MacRoman, which are not recognised.
        (b"Le pr\x82pos\x82 a not\x82 la d\x82rive de la bou\x82e apr\x8as la temp\x88te.", "unknown_encoding"),
        (b"Die F\x8ahre f\x8ahrt t\x8aglich, f\x9fr Sch\x9fler zum erm\x8a\xa7igten Preis.", "unknown_encoding"),
        (b"ok \x81\x8d\x8f\x90\x9d\xff\xfe ok", "unknown_encoding"),
    ] {
        let refused = decode(bytes).expect_err(code);
        assert_eq!(refused.code, code, "{refused}");
        assert!(refused.message.contains("convert"), "{refused}");
    }
}

#[test]
fn a_text_that_ends_inside_a_character_is_still_read() {
    let mut bytes = encoded(&CHINESE.repeat(3), GBK);
    bytes.pop();
    let decoded = decode(&bytes).unwrap();
    assert!(decoded.text.starts_with(CHINESE));
    assert!(decoded.notes.iter().any(|n| n.contains("ends inside a character")), "{:?}", decoded.notes);
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = family(&bytes, true);
        match decode(&bytes) {
            Ok(decoded) => prop_assert!(decoded.notes.len() <= 2),
            Err(e) => prop_assert!(["not_text", "unknown_encoding"].contains(&e.code.as_str())),
        }
    }

    #[test]
    fn utf_8_is_always_itself(text in "[^\u{0}-\u{1f}\u{7f}]{0,80}") {
        let decoded = decode(text.as_bytes()).unwrap();
        prop_assert_eq!(decoded, Decoded { text, notes: vec![] });
    }

    /// Checks that detection never refuses what decoding would read.
    #[test]
    fn the_beginning_of_a_readable_text_is_text(at in 1usize..400, pick in 0usize..6) {
        let (text, encoding): (&str, &'static Encoding) = [
            (RUSSIAN, WINDOWS_1251), (CHINESE, GBK), (JAPANESE, SHIFT_JIS), (KOREAN, EUC_KR), (FRENCH, WINDOWS_1252),
            (THAI, WINDOWS_874),
        ][pick];
        let bytes = encoded(&text.repeat(4), encoding);
        prop_assert!(family(&bytes[..at.min(bytes.len())], true).is_some());
    }
}
