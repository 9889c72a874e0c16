//! Arguments to a command to an exit code; everything else is in the library.

fn main() -> std::process::ExitCode {
    docweir::cli::main()
}
