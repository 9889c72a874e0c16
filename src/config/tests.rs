//! Tests that config.toml and .env.example agree with the code, and that every mistake is reported with its key and
//! line.

use std::path::PathBuf;

use docweir_providers::secrets::{SecretName, SecretSetting};

use super::*;

fn project(name: &str) -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.push(name);
    path
}

/// Loads `text` as a file called `c.toml`. Returns the problems without the path of the temporary folder.
fn load(text: &str, environment: &[(&str, &str)], arguments: &[(&'static str, &str, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    let environment = environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
    let arguments = arguments.iter().map(|(name, key, value)| Argument::new(name, *key, *value)).collect();
    let loaded = Config::load(&Source::Named(path), environment, arguments);
    loaded.map_err(|problems| problems.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

/// Compares a file of the project with its rendering, or writes it if `DOCWEIR_TEST_WRITE` is set.
fn assert_rendered(name: &str, rendered: &str) {
    let path = project(name);
    if std::env::var_os("DOCWEIR_TEST_WRITE").is_some() {
        std::fs::write(&path, rendered).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = written.lines().zip(rendered.lines()).position(|(w, r)| w != r);
    assert!(
        written == rendered,
        "{name} differs from the code at line {}; run `DOCWEIR_TEST_WRITE=1 scripts/test --lib config`",
        differing.map_or(written.lines().count().min(rendered.lines().count()), |line| line) + 1
    );
}

#[test]
fn config_toml_and_the_reference_are_rendered_from_the_code() {
    assert_rendered("config.toml", &render::config_toml());
    assert_rendered("docs/configuration.md", &render::configuration_md());
}

#[test]
fn config_toml_holds_the_common_keys_with_their_defaults() {
    let config = Config::load(&Source::Named(project("config.toml")), [], Vec::new()).unwrap();
    assert_eq!(config.settings, Settings::default());
    assert_eq!(config.layers.overrides().len(), COMMON.len());
    assert!(COMMON.len() <= 50, "config.toml may have 50 keys at most, but has {}", COMMON.len());
}

/// Checks that the reference describes every key exactly once.
#[test]
fn every_key_is_described_once() {
    let described: Vec<_> = reference::sections().into_iter().flat_map(|section| section.keys).collect();
    let mut names: Vec<_> = described.iter().map(|key| key.name.clone()).collect();
    names.sort();
    let known: Vec<_> = Layers::new(&defaults()).iter().map(|(key, ..)| key.to_owned()).collect();
    assert_eq!(names, known);
    for key in &described {
        let sentence =
            key.text.starts_with(|c: char| c.is_uppercase() || c.is_ascii_digit()) && key.text.ends_with('.');
        assert!(sentence && key.text.len() > 15, "the description of `{}` is no sentence: {:?}", key.name, key.text);
        assert!(!key.text.contains("[`"), "the description of `{}` contains a link of rustdoc", key.name);
    }
    for section in reference::sections().iter().filter(|section| !section.name.is_empty()) {
        assert!(
            section.text.ends_with('.'),
            "the description of `[{}]` is no sentence: {:?}",
            section.name,
            section.text
        );
    }
}

#[test]
fn a_key_that_is_gone_warns_and_changes_nothing() {
    let known: Vec<_> = Layers::new(&defaults()).iter().map(|(key, ..)| key.to_owned()).collect();
    let named = regex::Regex::new("`([a-z_.0-9]+)`").unwrap();
    for (key, advice) in retired::RETIRED {
        assert!(!known.iter().any(|k| k == key), "{key} was removed but is still a key");
        for replacement in
            named.captures_iter(advice).map(|c| c[1].to_owned()).filter(|name| !name.starts_with("workers."))
        {
            assert!(known.contains(&replacement), "the replacement `{replacement}` of {key} is not a key");
        }
        let config = load(&format!("{key} = 7"), &[], &[]).unwrap();
        assert_eq!(config.settings, Settings::default(), "{key}");
        let warning = config.layers.warnings()[0].to_string();
        assert!(warning.contains(&format!("c.toml:1: `{key}` is no longer a setting and is ignored: ")), "{warning}");
    }
    let config = load("", &[("DOCWEIR__SCALING__UP_AFTER", "3")], &[("--set", "control.wal_pages", "9")]).unwrap();
    assert_eq!(config.settings, Settings::default());
    assert_eq!(config.layers.warnings().len(), 2);
    let in_a_section = load("[scaling]\nup_after = 3\n[search]\ntop = 4", &[], &[]).unwrap();
    assert_eq!((in_a_section.settings.search.top, in_a_section.layers.warnings().len()), (4, 1));
    let slip = load("[scaling]\nup_aftr = 3", &[], &[]).unwrap_err();
    assert!(slip.contains("`scaling.up_aftr`"), "{slip}");
}

#[test]
fn a_key_that_was_renamed_is_still_read() {
    for (old, new) in retired::MOVED {
        let cases = [
            load(&format!("{old} = 7"), &[], &[]),
            load("", &[(&format!("DOCWEIR__{}", old.to_uppercase().replace('.', "__")), "7")], &[]),
            load("", &[], &[("--set", old, "7")]),
        ];
        for config in cases {
            let config = config.unwrap();
            let value = config.layers.get(new).map(|(value, _)| value.to_string());
            assert!(value.is_some_and(|value| value.starts_with('7')), "{old}");
            let warning = config.layers.warnings()[0].text.clone();
            assert_eq!((warning, config.layers.warnings().len()), (format!("was renamed; use `{new}` instead"), 1));
        }
        assert!(load(&format!("{old} = true"), &[], &[]).unwrap_err().contains(new), "{old}");
    }
}

#[test]
fn the_defaults_are_in_range() {
    assert_eq!(Settings::default().problems(), []);
}

#[test]
fn every_mistake_is_named_with_its_key_and_line() {
    let table = [
        ("[search]\n\ntopp = 3", "c.toml:3: `search.topp` is not a known key; did you mean `search.top`?"),
        ("[serch]\ntop = 3", "c.toml:1: `serch` is not a known section; did you mean `search`?"),
        ("[search]\nzzzzzzzzzzzzzzzzzz = 3", "is not a known key; `docweir config print --all` lists all known keys"),
        ("[search]\ntop = 0", "c.toml:2: `search.top` must be between 1 and 1000, not 0"),
        ("[search]\n# wide\ntop = 1_001", "c.toml:3: `search.top` must be between 1 and 1000, not 1001"),
        ("[search]\ntop = \"five\"", "c.toml:2: `search.top` must be an integer, not a string (for example `5`)"),
        ("[search]\nmode = \"fast\"", "c.toml:2: `search.mode` is not allowed"),
        ("[search]\ntop = 18446744073709551616", "c.toml:2: `search.top` is too large"),
        ("[search]\nweight = nan", "c.toml:2: `search.weight` must be between 0 and 1"),
        ("[extract.options.limits]\npages = 0", "c.toml:2: `extract.options.limits.pages`"),
        ("extract.workers = { min = 0 }", "c.toml:1: `extract.workers.min` must be between 1"),
        ("[chunk]\nworkers = { min = 5, max = 2 }", "c.toml:2: `chunk.workers.max` must be between 5"),
        ("[intake]\nextensions = [1]", "c.toml:2: `intake.extensions` is not allowed"),
        (
            "[lease]\nheartbeat_seconds = 200",
            "c.toml:2: `lease.heartbeat_seconds` must be at least 1 and at most a third",
        ),
        ("docweir_config = 2", "c.toml:1: `docweir_config` must be between 1 and 1"),
        ("[search]\ntop = \n", "c.toml:2: "),
    ];
    for (text, expected) in table {
        let problems = load(text, &[], &[]).map(|_| ()).unwrap_err();
        assert!(problems.contains(expected), "{text:?}\n gives    {problems:?}\n expected {expected:?}");
        assert_eq!(problems.lines().count(), 1, "{text:?} should give one problem: {problems}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let problems = load("[search]\ntopp = 3\n[chunk.options]\nmax_chars = true", &[], &[]).unwrap_err();
    assert_eq!(problems.lines().count(), 2, "{problems}");
}

#[test]
fn environment_overrides_file_and_arguments_override_environment() {
    let file = "[search]\ntop = 2\nweight = 1\n[state]\nfolder = \"a\"";
    let environment =
        [("DOCWEIR__SEARCH__TOP", "3"), ("DOCWEIR__STATE__FOLDER", "0"), ("DOCWEIRD", "x"), ("HOME", "/")];
    let config = load(file, &environment, &[("-k", "search.top", "4")]).unwrap();
    let s = &config.settings;
    assert_eq!((s.search.top, s.search.weight, s.state.folder.as_str()), (4, 1.0, "0"), "text is not converted");
    let origin = |key: &str| config.layers.origin(key).to_string();
    assert_eq!(origin("search.top"), "argument -k");
    assert_eq!(origin("state.folder"), "environment variable DOCWEIR__STATE__FOLDER");
    assert!(origin("search.weight").ends_with("c.toml:3"), "{}", origin("search.weight"));
    assert_eq!(origin("search.mode"), "default");
}

#[test]
fn a_variable_of_ours_is_checked_like_a_key() {
    let unknown = load("", &[("DOCWEIR__SEARCH__TOPP", "3")], &[]).unwrap_err();
    assert!(
        unknown.starts_with("environment variable DOCWEIR__SEARCH__TOPP: `search.topp` is not a known key"),
        "{unknown}"
    );
    let section = load("", &[("DOCWEIR__EMBED__WORKERS", "3")], &[]).unwrap_err();
    assert!(section.contains("`embed.workers` is a section; set one of its keys, e.g. `embed.workers."), "{section}");
    let wrong = load("", &[("DOCWEIR__SEARCH__TOP", "many")], &[]).unwrap_err();
    assert!(wrong.contains("must be an integer, not a string"), "{wrong}");
}

#[test]
fn a_secret_is_named_and_never_stands_there() {
    const KEY: &str = "embed.options.openai.api_key";
    let kept = "[embed.options.openai]\napi_key = { secret = \"openai\", field = \"key\" }";
    let named = |config: &Config| config.settings.embed.options.openai.api_key.clone();
    let expected = |secret: &str, field: Option<&str>| {
        SecretSetting::Kept(SecretName { secret: secret.into(), field: field.map(str::to_owned) })
    };
    let config = load(kept, &[], &[]).unwrap();
    assert_eq!(named(&config), expected("openai", Some("key")));
    for text in ["[embed.options.openai.api_key]\nsecret = \"s\"", "embed.options.openai.api_key.secret = \"s\""] {
        assert_eq!(named(&load(text, &[], &[]).unwrap()), expected("s", None), "{text}");
    }
    // The variable takes precedence over the file, and an argument over both. The value of the variable is stored
    // nowhere.
    let in_place = [("OPENAI_API_KEY", "sk-do-not-show")];
    let config = load(kept, &in_place, &[]).unwrap();
    assert_eq!(named(&config), SecretSetting::Unset);
    assert_eq!(config.layers.origin(KEY).to_string(), "environment variable OPENAI_API_KEY");
    assert!(!format!("{config:?}").contains("do-not-show"));
    let config = load(kept, &in_place, &[("--set", KEY, "{ secret = \"other\" }")]).unwrap();
    assert_eq!(named(&config), expected("other", None));
    let ours = ("DOCWEIR__EMBED__OPTIONS__OPENAI__API_KEY", "{ secret = \"ours\" }");
    assert_eq!(named(&load(kept, &[ours], &[]).unwrap()), expected("ours", None));
    let elsewhere = format!("{kept}\napi_key_variable = \"OTHER\"");
    assert_eq!(named(&load(&elsewhere, &in_place, &[]).unwrap()), expected("openai", Some("key")));

    let table = [
        ("\"sk-do-not-show\"", "must not contain the secret itself"),
        ("{ secret = \"s\", fields = \"do-not-show\" }", "must be `{ secret = \"NAME\" }`"),
        ("{ field = \"do-not-show\" }", "must be `{ secret = \"NAME\" }`"),
        ("{ secret = \"\" }", "must be"),
        ("5", "must be"),
    ];
    for (value, expected) in table {
        let problems = load(&format!("[embed.options.openai]\napi_key = {value}"), &[], &[]).unwrap_err();
        assert!(problems.starts_with(&format!("c.toml:2: `{KEY}` {expected}")), "{value}: {problems}");
        assert!(!problems.contains("do-not-show"), "{problems}");
    }
    for name in ["--set", "environment"] {
        let problems = match name {
            "--set" => load("", &[], &[("--set", KEY, "sk-do-not-show")]),
            _ => load("", &[("DOCWEIR__EMBED__OPTIONS__OPENAI__API_KEY", "sk-do-not-show")], &[]),
        };
        let problems = problems.unwrap_err();
        assert!(problems.contains("must not contain") && !problems.contains("do-not-show"), "{problems}");
    }
}

#[test]
fn variables_of_the_systems_before_are_known() {
    let config = load("", &[("HEARTBEAT_INTERVAL_SECONDS", "50")], &[]).unwrap();
    assert_eq!(config.settings.lease.heartbeat_seconds, 50);
    for (name, key) in ENVIRONMENT_ALIASES {
        let known = Layers::new(&defaults()).iter().any(|(k, ..)| k == *key);
        assert!(known, "{name} is an alias of `{key}`, which is not a key");
    }
}

/// Checks the assignments in `.env.example`, including the assignments that are commented out.
#[test]
fn every_variable_of_the_example_is_known_to_the_code() {
    let text = std::fs::read_to_string(project(".env.example")).unwrap();
    let mut variables = Vec::new();
    for line in text.lines() {
        let line = line.trim_start_matches(['#', ' ']);
        let Some((name, value)) = line.split_once('=') else { continue };
        if name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_') {
            variables.push((name.to_owned(), value.to_owned()));
        }
    }
    assert!(variables.len() >= 5, "{variables:?}");
    let known = |name: &str| {
        let alias = ENVIRONMENT_ALIASES.iter().any(|(alias, _)| *alias == name);
        alias
            || name.starts_with("DOCWEIR__")
            || ["DOCWEIR_CONFIG", "NO_COLOR", "OPENAI_API_KEY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"].contains(&name)
    };
    for (name, _) in &variables {
        assert!(known(name), ".env.example contains {name}, but no code reads it");
    }
    // Every variable that the code reads is in `.env.example`, except those that only tests set.
    let named = |name: &str| variables.iter().any(|(n, _)| n == name);
    let missing: Vec<_> = ENVIRONMENT_ALIASES.iter().map(|(alias, _)| *alias).filter(|alias| !named(alias)).collect();
    assert!(missing.is_empty(), "the code reads {missing:?}, but .env.example lacks them");
    let read = regex::Regex::new(r#"(?:env::var(?:_os)?\(|env = )"([A-Z_]+)"|absolute\("([A-Z_]+)"\)"#).unwrap();
    let mut seen = 0;
    for file in walkdir::WalkDir::new(project("src")).into_iter().map(Result::unwrap) {
        if file.path().extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let code = std::fs::read_to_string(file.path()).unwrap();
        for name in read.captures_iter(&code).filter_map(|c| c.get(1).or_else(|| c.get(2))).map(|m| m.as_str()) {
            let of_others = ["HOME", "HOSTNAME", "TERM", "DOCWEIR_FAILPOINT", "DOCWEIR_SHARED"].contains(&name);
            let fine = of_others || name.starts_with("DOCWEIR_TEST") || named(name);
            assert!(fine, "{} reads {name}, but .env.example lacks it", file.path().display());
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen}");
    // Docweir's own variables name existing keys and have allowed values.
    Config::load(&Source::None, variables, Vec::new()).unwrap();
}

#[test]
fn only_a_config_toml_that_says_so_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    let load = || Config::load(&Source::Folder(dir.path().to_owned()), [], Vec::new()).unwrap();
    std::fs::write(dir.path().join("config.toml"), "[build]\nx = 1").unwrap();
    assert_eq!(load().file, None, "the file belongs to another program");
    std::fs::write(dir.path().join("config.toml"), "# a remark\ndocweir_config = 1\nsearch.top = 9").unwrap();
    assert_eq!(load().settings.search.top, 9);
    std::fs::write(dir.path().join("docweir.toml"), "search.top = 8").unwrap();
    assert_eq!(load().settings.search.top, 8, "docweir.toml takes precedence over config.toml");
    let missing = Config::load(&Source::Named(dir.path().join("none.toml")), [], Vec::new()).unwrap_err();
    assert!(missing.to_string().contains("can't read the configuration"), "{missing}");
}

#[test]
fn no_limit_on_workers_is_what_suits_the_stage() {
    assert!(Workers::for_computing() >= 3);
    assert_eq!(Workers { min: 1, max: 0 }.most(4), 4);
    assert_eq!(Workers { min: 5, max: 0 }.most(4), 5, "the minimum applies");
    assert_eq!(Workers { min: 1, max: 3 }.most(4), 3);
}

/// Checks that every configuration key that a message names exists.
#[test]
fn every_key_that_a_message_names_is_a_key() {
    let keys: Vec<String> = Layers::new(&defaults()).iter().map(|(key, ..)| key.to_owned()).collect();
    let section = |name: &str| keys.iter().any(|key| key.split('.').next() == Some(name));
    let is_key = |name: &str| keys.iter().any(|key| key == name || key.starts_with(&format!("{name}.")));
    let literal = regex::Regex::new(r#""(?:[^"\\]|\\[\s\S])*""#).unwrap();
    let dotted = regex::Regex::new(r"\b[a-z]+(?:\.[a-z_]+)+\b").unwrap();
    let (mut seen, mut unknown) = (0, Vec::new());
    for file in walkdir::WalkDir::new(project("src")).into_iter().map(Result::unwrap) {
        // This file names wrong keys on purpose.
        if file.path().extension().is_none_or(|e| e != "rs") || file.path().ends_with("config/tests.rs") {
            continue;
        }
        let code = std::fs::read_to_string(file.path()).unwrap().replace("'\"'", "");
        // Only strings of several words are messages.
        for message in literal.find_iter(&code).map(|m| m.as_str()).filter(|m| m.contains(' ')) {
            for named in dotted.find_iter(message).map(|m| m.as_str()) {
                if named.split('.').next().is_some_and(section) && named != "control.db" {
                    seen += 1;
                    if !is_key(named) {
                        unknown.push(format!("{}: {named}", file.path().display()));
                    }
                }
            }
        }
    }
    assert!(seen > 20, "{seen}");
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// Checks that the Dockerfile copies the manifest of every crate. If a manifest were missing, the image could not be
/// built, and CI would not notice.
#[test]
fn the_dockerfile_copies_the_manifest_of_every_member() {
    let dockerfile = std::fs::read_to_string(project("Dockerfile")).unwrap();
    let crates = std::fs::read_dir(project("crates")).unwrap();
    let crates = crates.map(|entry| format!("crates/{}", entry.unwrap().file_name().to_string_lossy()));
    let members: Vec<String> = crates.chain(["examples/jsonl-target".to_owned()]).collect();
    assert!(members.len() >= 16, "{members:?}");
    for member in members {
        let copied = format!("COPY {member}/Cargo.toml {member}/");
        assert!(dockerfile.contains(&copied), "`{copied}` is missing");
    }
}

/// Damages configuration files at random. A file may be refused, but the reader must not panic or hang.
#[test]
fn a_damaged_file_is_refused_or_read() {
    let short = b"[embed]\nmode = \"live\"\nworkers = { min = 1, max = 2 }\n".to_vec();
    let seeds = [render::config_toml().into_bytes(), short];
    let words =
        ["[", "]", "[[", "=", "\"", "'''", "\\u", "{", "}", ".", "#", "inf", "1979-05-27T07:32:00Z", "embed.options"];
    let defaults = defaults();
    docweir_testkit::fuzz::fuzz("configuration", 1_000, &seeds, &words, |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        let mut layers = Layers::new(&defaults);
        layers.file(std::path::Path::new("f.toml"), text);
        if let Some(settings) = typed(&mut layers) {
            let _ = settings.problems();
        }
    });
}
