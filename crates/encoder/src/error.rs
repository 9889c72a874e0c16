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
    /// The model is of a kind that this encoder does not run.
    #[error("the built-in encoder cannot run the model: {0}")]
    Unsupported(String),
    /// The requested kernel needs instructions that this CPU does not have.
    #[error("this CPU lacks instructions that the kernel {0} needs; choose another kernel, or none for the best one")]
    KernelUnavailable(Kernel),
    /// The text at `index` exceeds the model's token limit; nothing was encoded.
    #[error("text {index} has {tokens} tokens, but the model takes at most {max_tokens}; split it before encoding")]
    TooLong {
        /// Position in the batch.
        index: usize,
        /// Number of tokens of the text, special tokens included.
        tokens: usize,
        /// Maximum number of tokens of one text.
        max_tokens: usize,
    },
    /// The forward pass returned a vector with a value that is not finite: the weights are damaged.
    #[error("the vector of text {index} is not finite: the model's weights are damaged; fetch them again")]
    NotFinite {
        /// Position in the batch.
        index: usize,
    },
}
