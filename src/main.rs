//! Runs the command line. Everything else is in the library.

fn main() -> std::process::ExitCode {
    docweir::cli::main()
}
