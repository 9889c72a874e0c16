//! Provides the codec of the vector codes. Searches use the codes to find the rows that need an exact score.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use docweir_codes::{Codec, CodesError};

/// Version of the vector codes. The version changes with the seed, the number of bits or the layout. If a file has
/// codes of another version, its codes are computed again.
pub const VERSION: u32 = 1;

/// Seed of the rotation. Any value would work, but another value requires a new [`VERSION`].
const SEED: u64 = 0x646f_6377_6569_7221;

/// Returns the codec for vectors of `dimension` values, created on first use.
pub fn codec(dimension: usize) -> Result<Arc<Codec>, CodesError> {
    static CODECS: OnceLock<Mutex<HashMap<usize, Arc<Codec>>>> = OnceLock::new();
    let mut codecs = CODECS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(codec) = codecs.get(&dimension) {
        return Ok(codec.clone());
    }
    let codec = Arc::new(Codec::new(dimension, SEED)?);
    codecs.insert(dimension, codec.clone());
    Ok(codec)
}
