//! Tests the stage through its public interface: generated PDFs, real children, and the shared corpus if it is
//! available.

mod children;
mod corpus;
mod pdfs;
