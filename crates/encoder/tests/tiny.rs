//! Tests the encoder with small random models, which are written as real files. The vectors are compared with those
//! of a plain implementation in f64.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed unwrap is a failed test")]

mod reference;

use std::path::Path;

use docweir_encoder::{Encoder, EncoderError, EncoderFiles, Kernel, LoadOptions};
use reference::{Shape, Tiny};

fn load(folder: &Path, kernel: Kernel) -> Encoder {
    let options = LoadOptions { kernel: Some(kernel), max_tokens: Some(200) };
    Encoder::load_files(&EncoderFiles::in_folder(folder), options).unwrap()
}

fn cosine(a: &[f32], b: &[f64]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(a, b)| f64::from(*a) * b).sum();
    let norm: f64 = a.iter().map(|a| f64::from(*a).powi(2)).sum();
    dot / norm.sqrt() / b.iter().map(|b| b * b).sum::<f64>().sqrt()
}

/// Returns token sequences of all critical lengths: one token, and lengths around the size of a tile, a panel and a
/// block. Together, the sequences have more tokens than fit into one group.
fn sequences(words: u32) -> Vec<Vec<u32>> {
    let lengths = [1, 2, 3, 5, 6, 7, 15, 16, 17, 31, 63, 64, 65, 95, 96, 97, 129, 200];
    let id = |i: u32, n: u32| (i * 31 + n * 17 + i * i) % words;
    lengths.iter().map(|&n| (0..n).map(|i| id(i, n)).collect()).collect()
}

/// Model shapes. In three of them, the size of a head, of the hidden layer or of the feed-forward layer is not a
/// multiple of a cache line.
const SHAPES: [Shape; 4] = [
    Shape { layers: 2, hidden: 32, heads: 4, wide: 64 },
    Shape { layers: 1, hidden: 24, heads: 2, wide: 40 },
    Shape { layers: 3, hidden: 64, heads: 2, wide: 130 },
    Shape { layers: 1, hidden: 128, heads: 2, wide: 256 },
];

#[test]
fn every_kernel_agrees_with_the_plain_implementation_in_f64() {
    for shape in SHAPES {
        let folder = tempfile::tempdir().unwrap();
        let tiny = Tiny::random(shape, 3);
        tiny.write(folder.path());
        let sequences = sequences(tiny.words as u32);
        let texts: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let mut fused: Option<Vec<Vec<f32>>> = None;
        for kernel in Kernel::ALL.into_iter().filter(|k| k.is_available()) {
            let encoder = load(folder.path(), kernel);
            assert_eq!((encoder.kernel(), encoder.dimension()), (kernel, shape.hidden));
            let vectors = encoder.encode_tokens(&texts).unwrap();
            for (text, vector) in texts.iter().zip(&vectors) {
                let norm: f32 = vector.iter().map(|v| v * v).sum();
                assert!((norm - 1.0).abs() < 1e-5, "{kernel}: length {norm}");
                let cosine = cosine(vector, &tiny.encode(text));
                assert!(cosine > 0.999_999, "{kernel} {shape:?} {} tokens: {cosine}", text.len());
            }
            if kernel != Kernel::Portable {
                let first = fused.get_or_insert_with(|| vectors.clone());
                assert_eq!(*first, vectors, "kernels with fused multiply-add agree bit for bit");
            }
        }
    }
}

#[test]
fn a_vector_does_not_depend_on_batch_order_or_thread() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny::random(SHAPES[0], 5);
    tiny.write(folder.path());
    let sequences = sequences(tiny.words as u32);
    let texts: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
    for kernel in Kernel::ALL.into_iter().filter(|k| k.is_available()) {
        let encoder = load(folder.path(), kernel);
        let alone: Vec<Vec<f32>> = texts.iter().map(|t| encoder.encode_tokens(&[t]).unwrap().remove(0)).collect();
        assert_eq!(encoder.encode_tokens(&texts).unwrap(), alone, "{kernel}: in one batch");
        let backwards: Vec<&[u32]> = texts.iter().rev().copied().collect();
        let mut got = encoder.encode_tokens(&backwards).unwrap();
        got.reverse();
        assert_eq!(got, alone, "{kernel}: backwards");
        std::thread::scope(|scope| {
            let run = || assert_eq!(encoder.encode_tokens(&texts).unwrap(), alone, "{kernel}: on many threads");
            for thread in (0..4).map(|_| scope.spawn(run)).collect::<Vec<_>>() {
                thread.join().unwrap();
            }
        });
    }
}

#[test]
fn text_goes_through_the_tokenizer_and_a_long_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::random(SHAPES[0], 7).write(folder.path());
    let encoder = load(folder.path(), Kernel::best());
    assert_eq!(encoder.tokenize("The lease"), [2, 5, 6, 3]);
    assert_eq!(encoder.count_tokens(&"lease ".repeat(500)), 502, "counted without truncation");
    let vectors = encoder.encode(&["the lease", ""]).unwrap();
    assert_eq!(vectors[0], encoder.encode_tokens(&[&[2, 5, 6, 3]]).unwrap()[0]);
    assert_eq!(vectors.len(), 2);
    let long = "lease ".repeat(199);
    match encoder.encode(&["the", &long]) {
        Err(EncoderError::TooLong { index: 1, tokens: 201, max_tokens: 200 }) => {}
        other => panic!("{other:?}"),
    }
    assert!(encoder.encode(&[&long[6..]]).is_ok(), "exactly the window");
    assert!(encoder.encode_tokens(&[&[59]]).is_err(), "no such word");
    assert!(encoder.encode_tokens(&[&[]]).is_err());
    assert!(encoder.encode(&[]).unwrap().is_empty());
}

#[test]
fn sizes_come_from_the_tensors_when_there_is_no_config() {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape { layers: 2, hidden: 64, heads: 2, wide: 96 };
    let tiny = Tiny::random(shape, 9);
    tiny.write(folder.path());
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    let encoder = Encoder::load(folder.path()).unwrap();
    assert_eq!(encoder.max_tokens(), 200, "no more than there are positions");
    let ids = [2, 9, 14, 3];
    assert!(cosine(&encoder.encode_tokens(&[&ids]).unwrap()[0], &tiny.encode(&ids)) > 0.999_999);
}

#[test]
fn damaged_files_are_refused_by_name() {
    let refused = |change: &dyn Fn(&Path, &mut Tiny), word: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut tiny = Tiny::random(SHAPES[0], 11);
        change(folder.path(), &mut tiny);
        tiny.write_missing(folder.path());
        let error = Encoder::load(folder.path()).err().expect(word).to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(&|_, t| t.tensor("encoder.layer.1.output.dense.bias").1[3] = f32::NAN, "encoder.layer.1.output.dense.bias");
    refused(&|_, t| t.tensor("encoder.layer.0.output.dense.bias").0[0] = 31, "shape");
    refused(&|_, t| drop(t.tensors.remove("embeddings.LayerNorm.weight")), "no tensor embeddings.LayerNorm.weight");
    refused(&|f, _| std::fs::write(f.join("model.safetensors"), b"not a model").unwrap(), "malformed");
    refused(&|f, _| std::fs::write(f.join("tokenizer.json"), b"{").unwrap(), "tokenizer.json");
    refused(&|f, _| std::fs::write(f.join("config.json"), br#"{"hidden_act": "relu"}"#).unwrap(), "hidden_act");
    refused(&|f, _| std::fs::write(f.join("config.json"), br#"{"hidden_size": 48}"#).unwrap(), "hidden_size");
    let missing = Encoder::load(Path::new("/nonexistent")).err().unwrap().to_string();
    assert!(missing.contains("/nonexistent"), "{missing}");
}
