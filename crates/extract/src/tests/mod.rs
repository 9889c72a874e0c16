//! Tests extraction through its public interface, with generated PDFs, real child processes, and the shared corpus if
//! it is available.

mod children;
mod corpus;
mod given;
mod pdfs;
