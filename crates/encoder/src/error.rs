use std::path::PathBuf;

use crate::kernel::Kernel;

/// Why a model could not be loaded or a text not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// A file is missing or unreadable.
    #[error("cannot read the model file {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("the model file {path} is malformed: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The model is of a kind that this encoder does not run.
    #[error("the model cannot be run by the built-in encoder: {0}")]
    Unsupported(String),
    /// A kernel was asked for that this CPU cannot run.
    #[error("the kernel {0} needs instructions that this CPU does not have: choose another or leave the choice open")]
    KernelUnavailable(Kernel),
    /// The text at `index` has more tokens than the model takes; nothing was encoded.
    #[error("text {index} has {tokens} tokens and the model takes {max_tokens}: split it before encoding")]
    TooLong {
        /// Position in the batch.
        index: usize,
        /// Tokens of the text, special tokens included.
        tokens: usize,
        /// The model's limit.
        max_tokens: usize,
    },
    /// The forward pass did not give a finite vector: the weights are damaged.
    #[error("the model gave no finite vector for text {index}: its weights are damaged, fetch them again")]
    NotFinite {
        /// Position in the batch.
        index: usize,
    },
}
