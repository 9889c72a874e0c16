use std::path::PathBuf;

use crate::kernel::Kernel;

/// Reason why a model could not be loaded or a text could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    /// A file is missing or unreadable.
    #[error("cannot read the model file {path}")]
    Io {
        /// Path of the file.
        path: PathBuf,
        /// Error that the system reported.
        source: std::io::Error,
    },
    /// A file does not have the expected content.
    #[error("the model file {path} is malformed: {reason}")]
    Malformed {
        /// Path of the file.
        path: PathBuf,
        /// Description of the problem.
        reason: String,
    },
    /// The encoder does not support this kind of model.
    #[error("the built-in encoder cannot run the model: {0}")]
    Unsupported(String),
    /// The requested kernel needs instructions that this CPU does not have.
    #[error("this CPU lacks instructions that the kernel {0} needs; choose another, or none to use the best")]
    KernelUnavailable(Kernel),
    /// The text at `index` exceeds the model's token limit; nothing was encoded.
    #[error("text {index} has {tokens} tokens, but the maximum is {max_tokens}; split it before encoding")]
    TooLong {
        /// Index of the text in the batch.
        index: usize,
        /// Number of tokens of the text, special tokens included.
        tokens: usize,
        /// Maximum number of tokens of one text.
        max_tokens: usize,
    },
    /// A vector contains a value that is not finite, because the model's weights are damaged.
    #[error("the vector of text {index} is not finite: the model's weights are damaged; fetch them again")]
    NotFinite {
        /// Index of the text in the batch.
        index: usize,
    },
}
