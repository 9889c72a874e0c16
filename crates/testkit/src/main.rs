//! Runs `docweir-testkit`, which writes generated documents and hostile files into a folder.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use docweir_testkit::{hostile, long_pages, markdown, with_text};

const HELP: &str = "\
Writes documents for tests and benchmarks. The same arguments give the same bytes.

Usage:
  docweir-testkit generate --out DIR [--count N] [--pages N] [--more N] [--seed N] [--kind pdf|markdown]
  docweir-testkit hostile --out DIR
  docweir-testkit locked

Commands:
  generate   writes N documents, with seeds from --seed upwards, named after their seed
               --count  number of documents (default 100)
               --pages  pages of each PDF, or sections of each Markdown file (default 2)
               --more   additional paragraphs of about 90 words on each page of a PDF (default 0)
               --seed   first seed (default 0)
               --kind   type of the documents (default pdf)
  hostile    writes one bad file of each kind
  locked     writes the unencrypted source of the encrypted files in crates/testkit/data to standard output

Example:
  docweir-testkit generate --count 10000 --pages 2 --out /tmp/ten-thousand
";

/// Largest seed for which all markers differ.
const MAX_SEED: u64 = u32::MAX as u64;

#[derive(Debug, PartialEq)]
struct Arguments {
    out: PathBuf,
    count: u64,
    pages: usize,
    more: usize,
    seed: u64,
    markdown: bool,
}

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let command = words.next().unwrap_or_default();
    let done = match command.to_str() {
        Some("generate") => parse(words).and_then(|arguments| generate(&arguments)),
        Some("hostile") => parse(words).and_then(|arguments| write_hostile(&arguments)),
        Some("locked") => write_out(&with_text(&["# Locked\nThis stands behind a password.", "A second page."])),
        Some("help" | "--help" | "-h") => write_out(HELP.as_bytes()),
        _ => Err(format!("unknown command {command:?}: use one of generate, hostile, locked, help")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("error: {problem}\n").as_bytes());
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
    let mut out = None;
    let (mut count, mut pages, mut more, mut seed, mut markdown) = (100, 2, 0, 0, false);
    while let Some(name) = words.next() {
        let name = name.to_string_lossy().into_owned();
        let value = words.next().ok_or_else(|| format!("{name} needs a value"))?;
        let text = value.to_string_lossy();
        let number = || text.parse::<u64>().map_err(|_| format!("{name} {text}: not a whole number"));
        match name.as_str() {
            "--out" => out = Some(PathBuf::from(&value)),
            "--count" => count = number()?,
            "--pages" => pages = usize::try_from(number()?).map_err(|_| format!("{name} {text}: too large"))?,
            "--more" => more = usize::try_from(number()?).map_err(|_| format!("{name} {text}: too large"))?,
            "--seed" => seed = number()?,
            "--kind" if text == "pdf" => markdown = false,
            "--kind" if text == "markdown" => markdown = true,
            "--kind" => return Err(format!("--kind {text}: use pdf or markdown")),
            _ => return Err(format!("unknown option {name}: use --out, --count, --pages, --more, --seed or --kind")),
        }
    }
    if seed.checked_add(count).is_none_or(|end| end > MAX_SEED) {
        return Err(format!("--seed {seed} --count {count}: the largest seed is {MAX_SEED}; use smaller numbers"));
    }
    Ok(Arguments { out: out.ok_or("--out DIR is missing")?, count, pages, more, seed, markdown })
}

fn generate(arguments: &Arguments) -> Result<(), String> {
    for seed in arguments.seed..arguments.seed + arguments.count {
        if arguments.markdown {
            write(arguments, &format!("document-{seed:06}.md"), markdown(seed, arguments.pages).as_bytes())?;
        } else {
            write(arguments, &format!("document-{seed:06}.pdf"), &long_pages(arguments.pages, arguments.more, seed))?;
        }
    }
    Ok(())
}

fn write_hostile(arguments: &Arguments) -> Result<(), String> {
    hostile::all().iter().try_for_each(|file| write(arguments, file.name, &file.bytes))
}

fn write(arguments: &Arguments, name: &str, bytes: &[u8]) -> Result<(), String> {
    let path = arguments.out.join(name);
    fs::create_dir_all(&arguments.out)
        .and_then(|()| fs::write(&path, bytes))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn write_out(bytes: &[u8]) -> Result<(), String> {
    std::io::Write::write_all(&mut std::io::stdout(), bytes)
        .map_err(|error| format!("cannot write to standard output: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_are_read_and_mistakes_are_named() {
        let expected = Arguments { out: "x".into(), count: 3, pages: 9, more: 5, seed: 4, markdown: true };
        assert_eq!(parsed("--out x --count 3 --pages 9 --more 5 --seed 4 --kind markdown"), Ok(expected));
        for (line, part) in [
            ("", "--out DIR"),
            ("--out", "needs a value"),
            ("--out x --count three", "three"),
            ("--out x --kind docx", "docx"),
            ("--out x --colour red", "--colour"),
            ("--out x --seed 4294967295 --count 1", "largest seed"),
        ] {
            let problem = parsed(line).unwrap_err();
            assert!(problem.contains(part), "{line:?} gave {problem:?}");
        }
    }

    #[test]
    fn files_are_written_as_told() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("new");
        let arguments = Arguments { out: out.clone(), count: 2, pages: 1, more: 0, seed: 7, markdown: false };
        generate(&arguments).unwrap();
        generate(&Arguments { markdown: true, count: 1, ..arguments }).unwrap();
        let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["document-000007.md", "document-000007.pdf", "document-000008.pdf"]);
        assert_eq!(fs::read(out.join("document-000008.pdf")).unwrap(), docweir_testkit::pages(1, 8));
    }

    #[test]
    fn every_hostile_file_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().to_path_buf();
        write_hostile(&Arguments { out, count: 0, pages: 0, more: 0, seed: 0, markdown: false }).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), hostile::all().len());
    }
}
