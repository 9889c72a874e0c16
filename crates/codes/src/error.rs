use std::fmt;

/// What can be wrong with what a caller hands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodesError {
    /// The dimension is zero or above [`MAX_DIMENSION`](crate::MAX_DIMENSION).
    Dimension(usize),
    /// A vector of another length than the codec's dimension.
    VectorLength {
        /// Values of the vector.
        given: usize,
        /// The codec's dimension.
        dimension: usize,
    },
    /// A vector that holds NaN or an infinity, or whose length is beyond what f32 holds.
    NotFinite,
    /// Rows that lie outside the codes.
    Rows {
        /// End of the range that was asked for.
        end: usize,
        /// Rows that the codes have room for, or that 32 bits can number.
        rows: usize,
    },
}

impl fmt::Display for CodesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodesError::Dimension(given) => {
                write!(f, "cannot code vectors of {given} dimensions: use 1 to {}", crate::MAX_DIMENSION)
            }
            CodesError::VectorLength { given, dimension } => {
                write!(f, "a vector has {given} values where the codes have {dimension} dimensions")
            }
            CodesError::NotFinite => f.write_str("a vector holds a value that is not finite, or too large a one"),
            CodesError::Rows { end, rows } => {
                write!(f, "rows up to {end} were asked for and the codes hold {rows}: the codes are of another file")
            }
        }
    }
}

impl std::error::Error for CodesError {}
