//! Runs `docweir-mock-provider`, the mock provider as a process.

use std::io::{Read, Write};
use std::process::ExitCode;

use docweir_mock_provider::{Arguments, HELP, MockProvider};

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => return complain(&problem),
    };
    if arguments.help {
        return say(HELP);
    }
    let mock = match MockProvider::start(arguments.options) {
        Ok(mock) => mock,
        Err(problem) => return complain(&problem.to_string()),
    };
    let said = say(&format!("listening on {}\n", mock.base_url()));
    // The parent process holds the other end of standard input, which closes when the parent ends in any way.
    let mut ignored = [0; 256];
    while std::io::stdin().read(&mut ignored).is_ok_and(|count| count > 0) {}
    if arguments.keep_running {
        loop {
            std::thread::park();
        }
    }
    said
}

fn say(text: &str) -> ExitCode {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(problem: &str) -> ExitCode {
    let _ = std::io::stderr().write_all(format!("error: {problem}\n").as_bytes());
    ExitCode::from(2)
}
