//! Reads a model's weights: finds each tensor by name, checks its shape, and packs its values for the kernel.
//!
//! The word embeddings make up about half of the file. They stay in the mapped file and are read one row at a time. All
//! other tensors are copied into packed panels.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use crate::config::ConfigFile;
use crate::error::EncoderError;
use crate::tile::Linear;

/// Holds a model's weights, packed for tiles of `L` cache lines.
pub(crate) struct Network<const L: usize> {
    pub hidden: usize,
    pub heads: usize,
    pub eps: f32,
    pub words: Words,
    /// Position embeddings plus the embedding of token type 0, one row per position.
    pub positions: Vec<f32>,
    pub norm: Norm,
    pub layers: Vec<Layer<L>>,
}

pub(crate) struct Layer<const L: usize> {
    /// Layer that computes query, key and value together. The query's weights include the factor `1/√(values per
    /// head)`.
    pub qkv: Linear<L>,
    pub projection: Linear<L>,
    pub attention_norm: Norm,
    pub up: Linear<L>,
    pub down: Linear<L>,
    pub output_norm: Norm,
}

pub(crate) struct Norm {
    pub gain: Vec<f32>,
    pub shift: Vec<f32>,
}

/// Reads the word embeddings from the mapped file.
pub(crate) struct Words {
    file: Arc<Mmap>,
    bytes: Range<usize>,
    hidden: usize,
}

impl Words {
    pub fn count(&self) -> usize {
        self.bytes.len() / (4 * self.hidden)
    }

    /// Adds the embedding of the word `id` to a row. The encoder has already checked that the model contains this id.
    #[inline(always)]
    pub fn add_to(&self, id: u32, row: &mut [f32]) {
        let start = self.bytes.start + id as usize * 4 * self.hidden;
        for (x, bytes) in row.iter_mut().zip(self.file[start..start + 4 * self.hidden].as_chunks::<4>().0) {
            *x += f32::from_le_bytes(*bytes);
        }
    }
}

/// Holds the mapped weights file and its path.
pub(crate) struct WeightsFile<'a> {
    path: &'a Path,
    file: Arc<Mmap>,
}

impl<'a> WeightsFile<'a> {
    pub fn open(path: &'a Path) -> Result<Self, EncoderError> {
        let io = |source| EncoderError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: a mapping is sound as long as no process changes the file under it. Model files are published by
        // renaming a complete file into place and are never written again. Replacing one by another rename leaves
        // this mapping on the old content. The mapping is only read as plain bytes, of which every value is valid.
        let file = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self { path, file: Arc::new(file) })
    }

    pub fn network<const L: usize>(&self, config: &ConfigFile) -> Result<Network<L>, EncoderError> {
        let tensors = SafeTensors::deserialize(&self.file).map_err(|e| self.malformed(e.to_string()))?;
        let reader = Reader { file: self, tensors };
        let (_, words) = reader.shape("embeddings.word_embeddings.weight")?;
        let hidden = words;
        let depth = reader.depth();
        for (key, said, found) in
            [("hidden_size", config.hidden_size, hidden), ("num_hidden_layers", config.num_hidden_layers, depth)]
        {
            if said.is_some_and(|said| said != found) {
                return Err(
                    self.malformed(format!("{key} in config.json differs from the value {found} of the tensors"))
                );
            }
        }
        // The shapes do not reveal the number of heads. Models of this family have heads of 32 values up to a hidden
        // size of 384, and of 64 above.
        let heads = config.num_attention_heads.unwrap_or(hidden / if hidden <= 384 { 32 } else { 64 });
        if depth == 0 || heads == 0 || !hidden.is_multiple_of(heads) {
            return Err(self.malformed(format!("{depth} layers of {hidden} values cannot have {heads} heads")));
        }
        let (count, _) = reader.shape("embeddings.position_embeddings.weight")?;
        let mut positions = reader.matrix("embeddings.position_embeddings.weight", count, hidden)?;
        let (types, _) = reader.shape("embeddings.token_type_embeddings.weight")?;
        let kinds = reader.matrix("embeddings.token_type_embeddings.weight", types, hidden)?;
        for row in positions.chunks_exact_mut(hidden) {
            for (x, kind) in row.iter_mut().zip(&kinds) {
                *x += kind;
            }
        }
        let layers = (0..depth).map(|i| reader.layer(i, hidden, heads)).collect::<Result<_, _>>()?;
        Ok(Network {
            hidden,
            heads,
            eps: config.layer_norm_eps.unwrap_or(1e-12),
            words: Words {
                file: Arc::clone(&self.file),
                bytes: reader.range("embeddings.word_embeddings.weight")?,
                hidden,
            },
            positions,
            norm: reader.norm("embeddings.LayerNorm", hidden)?,
            layers,
        })
    }

    fn malformed(&self, reason: String) -> EncoderError {
        EncoderError::Malformed { path: self.path.to_owned(), reason }
    }
}

struct Reader<'a> {
    file: &'a WeightsFile<'a>,
    tensors: SafeTensors<'a>,
}

impl Reader<'_> {
    /// Finds a tensor by its name. Some exports prefix all names with `bert.`.
    fn tensor(&self, name: &str) -> Result<safetensors::tensor::TensorView<'_>, EncoderError> {
        let view = self.tensors.tensor(name).or_else(|_| self.tensors.tensor(&format!("bert.{name}")));
        let view = view.map_err(|_| self.file.malformed(format!("the file has no tensor {name}")))?;
        match view.dtype() {
            Dtype::F32 => Ok(view),
            other => Err(EncoderError::Unsupported(format!("the tensor {name} is {other:?}; only F32 is supported"))),
        }
    }

    fn depth(&self) -> usize {
        let exists = |i: &usize| self.tensor(&format!("encoder.layer.{i}.attention.self.query.weight")).is_ok();
        (0..).take_while(exists).count()
    }

    fn shape(&self, name: &str) -> Result<(usize, usize), EncoderError> {
        match self.tensor(name)?.shape() {
            &[rows, columns] if rows > 0 && columns > 0 => Ok((rows, columns)),
            other => Err(self.file.malformed(format!("the tensor {name} has the shape {other:?}, not a matrix"))),
        }
    }

    /// Returns the byte range of a tensor in the file.
    fn range(&self, name: &str) -> Result<Range<usize>, EncoderError> {
        let data = self.tensor(name)?.data().as_ptr_range();
        let base = self.file.file.as_ptr();
        Ok(data.start.addr() - base.addr()..data.end.addr() - base.addr())
    }

    fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EncoderError> {
        let tensor = self.tensor(name)?;
        if tensor.shape() != shape {
            let found = tensor.shape();
            return Err(self.file.malformed(format!("the tensor {name} has the shape {found:?}, expected {shape:?}")));
        }
        let values: Vec<f32> = tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if values.iter().any(|v| !v.is_finite()) {
            return Err(self.file.malformed(format!("the tensor {name} contains a value that is not finite")));
        }
        Ok(values)
    }

    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Vec<f32>, EncoderError> {
        self.values(name, &[rows, columns])
    }

    fn norm(&self, name: &str, size: usize) -> Result<Norm, EncoderError> {
        Ok(Norm {
            gain: self.values(&format!("{name}.weight"), &[size])?,
            shift: self.values(&format!("{name}.bias"), &[size])?,
        })
    }

    fn linear<const L: usize>(&self, name: &str, inputs: usize, outputs: usize) -> Result<Linear<L>, EncoderError> {
        let weights = self.matrix(&format!("{name}.weight"), outputs, inputs)?;
        Ok(Linear::pack(&weights, &self.values(&format!("{name}.bias"), &[outputs])?, inputs))
    }

    fn layer<const L: usize>(&self, i: usize, hidden: usize, heads: usize) -> Result<Layer<L>, EncoderError> {
        let name = |part: &str| format!("encoder.layer.{i}.{part}");
        let (wide, _) = self.shape(&name("intermediate.dense.weight"))?;
        // The query's weights include the scale of the scores.
        let scale = 1.0 / ((hidden / heads) as f32).sqrt();
        let (mut weights, mut bias) = (Vec::with_capacity(3 * hidden * hidden), Vec::with_capacity(3 * hidden));
        for (part, scale) in [("query", scale), ("key", 1.0), ("value", 1.0)] {
            let part = name(&format!("attention.self.{part}"));
            weights.extend(self.matrix(&format!("{part}.weight"), hidden, hidden)?.iter().map(|w| w * scale));
            bias.extend(self.values(&format!("{part}.bias"), &[hidden])?.iter().map(|b| b * scale));
        }
        Ok(Layer {
            qkv: Linear::pack(&weights, &bias, hidden),
            projection: self.linear(&name("attention.output.dense"), hidden, hidden)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"), hidden)?,
            up: self.linear(&name("intermediate.dense"), hidden, wide)?,
            down: self.linear(&name("output.dense"), wide, hidden)?,
            output_norm: self.norm(&name("output.LayerNorm"), hidden)?,
        })
    }
}
