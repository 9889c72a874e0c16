//! The codes of the vectors, for finding the rows that are worth an exact look.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use docweir_codes::{Codec, CodesError};

/// Of what a code is made by: seed, bits, layout. Files with another one make their codes anew.
pub const VERSION: u32 = 1;

/// Of the rotation. Any number does; it is part of [`VERSION`].
const SEED: u64 = 0x646f_6377_6569_7221;

/// The codec for vectors of so many dimensions: made once.
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
