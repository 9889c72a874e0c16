use std::fmt;

/// Describes invalid input to this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodesError {
    /// The dimension is zero or above [`MAX_DIMENSION`](crate::MAX_DIMENSION).
    Dimension(usize),
    /// A vector's length differs from the codec's dimension.
    VectorLength {
        /// Number of values in the vector.
        given: usize,
        /// Dimension of the codec.
        dimension: usize,
    },
    /// A vector contains NaN or an infinity, or its length exceeds the range of f32.
    NotFinite,
    /// A range of rows lies outside the codes.
    Rows {
        /// End of the requested range.
        end: usize,
        /// Maximum number of rows in a range. Equals the number of rows in the codes, unless there are more rows than
        /// 32-bit row numbers can count.
        rows: usize,
    },
}

impl fmt::Display for CodesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodesError::Dimension(given) => {
                write!(f, "cannot encode vectors of {given} dimensions; use 1 to {}", crate::MAX_DIMENSION)
            }
            CodesError::VectorLength { given, dimension } => {
                write!(f, "vector has {given} values, but the codec has {dimension} dimensions")
            }
            CodesError::NotFinite => f.write_str("vector contains NaN, an infinity or a value that is too large"),
            CodesError::Rows { end, rows } => {
                write!(
                    f,
                    "row range ends at {end}, but only {rows} rows are available; check that the codes belong to the same file"
                )
            }
        }
    }
}

impl std::error::Error for CodesError {}
