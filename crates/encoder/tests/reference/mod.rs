//! Implements BERT as the paper describes it, in f64, one number at a time. This implementation is slow and simple,
//! and shares no code with the encoder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub wide: usize,
}

/// Maps a tensor's name to its shape and values.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

pub struct Tiny {
    shape: Shape,
    pub words: usize,
    pub tensors: Tensors,
}

const POSITIONS: usize = 200;

impl Tiny {
    pub fn random(shape: Shape, seed: u64) -> Self {
        let words = 59;
        let Shape { layers, hidden, wide, .. } = shape;
        let mut tiny = Tiny { shape, words, tensors: Tensors::new() };
        let mut state = seed;
        let mut add = |name: String, dims: &[usize], scale: f64, offset: f64| {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (((state >> 33) as f64 / f64::from(1u32 << 31)) * 2.0 - 1.0) * scale + offset
            };
            let values = (0..dims.iter().product()).map(|_| next() as f32).collect();
            tiny.tensors.insert(name, (dims.to_vec(), values));
        };
        add("embeddings.word_embeddings.weight".into(), &[words, hidden], 1.0, 0.0);
        add("embeddings.position_embeddings.weight".into(), &[POSITIONS, hidden], 0.5, 0.0);
        add("embeddings.token_type_embeddings.weight".into(), &[2, hidden], 0.5, 0.0);
        let norms = (0..layers)
            .flat_map(|i| ["attention.output", "output"].map(|part| format!("encoder.layer.{i}.{part}.LayerNorm")));
        for name in norms.chain(["embeddings.LayerNorm".to_owned()]) {
            add(format!("{name}.weight"), &[hidden], 0.5, 1.0);
            add(format!("{name}.bias"), &[hidden], 0.3, 0.0);
        }
        for i in 0..layers {
            for (part, outputs, inputs) in [
                ("attention.self.query", hidden, hidden),
                ("attention.self.key", hidden, hidden),
                ("attention.self.value", hidden, hidden),
                ("attention.output.dense", hidden, hidden),
                ("intermediate.dense", wide, hidden),
                ("output.dense", hidden, wide),
            ] {
                let scale = 3.0 / (inputs as f64).sqrt();
                add(format!("encoder.layer.{i}.{part}.weight"), &[outputs, inputs], scale, 0.0);
                add(format!("encoder.layer.{i}.{part}.bias"), &[outputs], 0.2, 0.0);
            }
        }
        tiny
    }

    pub fn tensor(&mut self, name: &str) -> &mut (Vec<usize>, Vec<f32>) {
        self.tensors.get_mut(name).unwrap()
    }

    pub fn write(&self, folder: &Path) {
        self.write_missing(folder);
    }

    /// Writes the model's files to the folder, except those that the folder already contains.
    pub fn write_missing(&self, folder: &Path) {
        let bytes: BTreeMap<&String, Vec<u8>> =
            self.tensors.iter().map(|(n, (_, v))| (n, v.iter().flat_map(|x| x.to_le_bytes()).collect())).collect();
        let views = self.tensors.iter().map(|(name, (shape, values))| {
            // A test may state a wrong shape; the bytes must then match that shape, so that the file as such is valid.
            let size = 4 * shape.iter().product::<usize>().min(values.len());
            (name, TensorView::new(Dtype::F32, shape.clone(), &bytes[name][..size]).unwrap())
        });
        let weights = safetensors::serialize(views, None).unwrap();
        let Shape { layers, hidden, heads, .. } = self.shape;
        let config = format!(
            r#"{{"model_type": "bert", "hidden_act": "gelu", "hidden_size": {hidden}, "num_hidden_layers": {layers},
                "num_attention_heads": {heads}, "layer_norm_eps": 1e-12}}"#
        );
        let tokenizer = include_str!("../../src/tokenizer/small.json").as_bytes();
        for (name, content) in [
            ("model.safetensors", weights.as_slice()),
            ("config.json", config.as_bytes()),
            ("tokenizer.json", tokenizer),
        ] {
            if !folder.join(name).exists() {
                std::fs::write(folder.join(name), content).unwrap();
            }
        }
    }

    fn values(&self, name: &str) -> Vec<f64> {
        self.tensors[name].1.iter().map(|v| f64::from(*v)).collect()
    }

    fn linear(&self, x: &[Vec<f64>], name: &str) -> Vec<Vec<f64>> {
        let (weights, bias) = (self.values(&format!("{name}.weight")), self.values(&format!("{name}.bias")));
        let row = |x: &Vec<f64>| {
            let output = |o: usize| bias[o] + x.iter().zip(&weights[o * x.len()..]).map(|(x, w)| x * w).sum::<f64>();
            (0..bias.len()).map(output).collect()
        };
        x.iter().map(row).collect()
    }

    fn norm(&self, x: &[f64], name: &str) -> Vec<f64> {
        let (gain, shift) = (self.values(&format!("{name}.weight")), self.values(&format!("{name}.bias")));
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let deviation = (variance + 1e-12).sqrt();
        x.iter().zip(gain.iter().zip(&shift)).map(|(v, (g, b))| (v - mean) / deviation * g + b).collect()
    }

    fn add_norm(&self, x: &[Vec<f64>], y: &[Vec<f64>], name: &str) -> Vec<Vec<f64>> {
        let sum = |(x, y): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> { x.iter().zip(y).map(|(a, b)| a + b).collect() };
        x.iter().zip(y).map(|pair| self.norm(&sum(pair), name)).collect()
    }

    pub fn encode(&self, ids: &[u32]) -> Vec<f64> {
        let Shape { layers, hidden, heads, .. } = self.shape;
        let size = hidden / heads;
        let words = self.values("embeddings.word_embeddings.weight");
        let positions = self.values("embeddings.position_embeddings.weight");
        let kind = self.values("embeddings.token_type_embeddings.weight");
        let embed = |(t, &id): (usize, &u32)| {
            let at = |i: usize| words[id as usize * hidden + i] + positions[t * hidden + i] + kind[i];
            self.norm(&(0..hidden).map(at).collect::<Vec<_>>(), "embeddings.LayerNorm")
        };
        let mut x: Vec<Vec<f64>> = ids.iter().enumerate().map(embed).collect();
        for i in 0..layers {
            let name = |part: &str| format!("encoder.layer.{i}.{part}");
            let [q, k, v] = ["query", "key", "value"].map(|p| self.linear(&x, &name(&format!("attention.self.{p}"))));
            let mut context = vec![vec![0.0; hidden]; x.len()];
            for head in 0..heads {
                let part = head * size..(head + 1) * size;
                for (t, q) in q.iter().enumerate() {
                    let dot = |k: &Vec<f64>| part.clone().map(|d| q[d] * k[d]).sum::<f64>() / (size as f64).sqrt();
                    let terms: Vec<f64> = k.iter().map(|k| dot(k).exp()).collect();
                    let total: f64 = terms.iter().sum();
                    for d in part.clone() {
                        context[t][d] = terms.iter().zip(&v).map(|(p, v)| p / total * v[d]).sum();
                    }
                }
            }
            let attended = self.linear(&context, &name("attention.output.dense"));
            x = self.add_norm(&x, &attended, &name("attention.output.LayerNorm"));
            let mut inner = self.linear(&x, &name("intermediate.dense"));
            for h in inner.iter_mut().flatten() {
                *h *= 0.5 * (1.0 + erf(*h / 2f64.sqrt()));
            }
            x = self.add_norm(&x, &self.linear(&inner, &name("output.dense")), &name("output.LayerNorm"));
        }
        (0..hidden).map(|d| x.iter().map(|row| row[d]).sum::<f64>() / x.len() as f64).collect()
    }
}

/// Computes erf by its Taylor series for arguments within ±5, and returns ±1 outside that range.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut total) = (x, x);
    for n in 1..300 {
        term *= -x * x / f64::from(n);
        total += term / f64::from(2 * n + 1);
    }
    total * 2.0 / std::f64::consts::PI.sqrt()
}
