//! The stage as its callers see it: generated PDFs, real children, and the shared corpus where it is at hand.

mod children;
mod corpus;
mod pdfs;
