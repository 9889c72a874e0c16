//! Tests the encoder with the model all-MiniLM-L6-v2. The tests read the model's files from the folder that
//! DOCWEIR_TEST_MODEL names, or else from the user's cache.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed unwrap is a failed test; a skip is printed")]

use std::path::PathBuf;

use docweir_encoder::{Encoder, EncoderFiles, Kernel, LoadOptions};

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCWEIR_TEST_MODEL").map(PathBuf::from).or_else(cached);
    let folder = folder.filter(|f| f.join("model.safetensors").exists());
    if folder.is_none() {
        println!("skipped: no all-MiniLM-L6-v2 in the model cache; DOCWEIR_TEST_MODEL can name its folder");
    }
    folder
}

/// Returns the model's folder in the user's cache, if `docweir` has fetched the model already.
fn cached() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").filter(|d| !d.is_empty()).map(PathBuf::from).or_else(home)?;
    let folders = std::fs::read_dir(base.join("docweir/models")).ok()?.flatten().map(|e| e.path());
    folders.filter(|f| f.is_dir()).find(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(MODEL)))
}

const MODEL: &str = "all-MiniLM-L6-v2";

/// Texts with the first eight values of their vectors, computed in f64 from the same model files.
const EXPECTED: [(&str, [f64; 8]); 3] = [
    (
        "How is a stale lease fenced?",
        [-0.00246377, 0.0245521, 0.01218187, 0.03026319, 0.02023706, -0.06298429, -0.04334955, -0.08747889],
    ),
    (
        "Zürich, 東京 and naïve cafés: 12.5% 🙂",
        [0.14857524, 0.00783338, 0.04395558, 0.02059623, 0.01659388, 0.00283719, 0.02079876, 0.01383586],
    ),
    (
        "The lease.",
        [-0.03745941, 0.06029465, -0.03203433, 0.02050478, -0.01329016, 0.02880628, 0.00860543, -0.07620126],
    ),
];

#[test]
fn vectors_are_those_of_the_reference() {
    let Some(folder) = folder() else { return };
    for kernel in Kernel::ALL.into_iter().filter(|k| k.is_available()) {
        let options = LoadOptions { kernel: Some(kernel), max_tokens: Some(256) };
        let encoder = Encoder::load_files(&EncoderFiles::in_folder(&folder), options).unwrap();
        assert_eq!((encoder.dimension(), encoder.max_tokens()), (384, 256));
        for (text, expected) in EXPECTED {
            let vector = encoder.encode(&[text]).unwrap().remove(0);
            for (got, expected) in vector.iter().zip(expected) {
                assert!((f64::from(*got) - expected).abs() < 2e-6, "{kernel}, {text:?}: {got} and not {expected}");
            }
        }
    }
}

#[test]
fn meaning_is_near_meaning() {
    let Some(folder) = folder() else { return };
    let encoder = Encoder::load(&folder).unwrap();
    let texts = [
        "How is a stale lease fenced?",
        "An expired holder is kept out by the epoch of its lock.",
        "Bake for an hour.",
    ];
    let v = encoder.encode(&texts).unwrap();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    assert!(dot(&v[0], &v[1]) > dot(&v[0], &v[2]) + 0.1);
}

#[test]
fn ids_are_those_of_the_reference() {
    let Some(folder) = folder() else { return };
    let encoder = Encoder::load(&folder).unwrap();
    for (text, ids) in [
        ("Hello, World!", &[101, 7592, 1010, 2088, 999, 102]),
        ("naïve Café — Zürich", &[101, 15743, 7668, 1517, 10204, 102]),
        ("東京 and 北京大学", &[101, 1879, 1755, 1998, 1781, 1755, 1810, 1817, 102]),
        ("한국어", &[101, 1469, 30006, 30021, 29991, 30014, 30020, 29999, 30008, 102]),
        ("Привет, мир", &[101, 1194, 16856, 10325, 25529, 15290, 22919, 1010, 1191, 10325, 16856, 102]),
        ("नमस्ते", &[101, 1327, 29867, 29874, 29859, 102]),
        ("🙂 fine", &[101, 100, 2986, 102]),
        ("İstanbul STRASSE ß", &[101, 9960, 2358, 8180, 3366, 1096, 102]),
        ("antidisestablishmentarianism", &[101, 3424, 10521, 4355, 7875, 13602, 3672, 12199, 2964, 102]),
        ("it's 12.5% (US$)", &[101, 2009, 1005, 1055, 2260, 1012, 1019, 1003, 1006, 2149, 1002, 1007, 102]),
    ] as [(&str, &[u32]); 10]
    {
        assert_eq!(encoder.tokenize(text), ids, "{text:?}");
    }
}
