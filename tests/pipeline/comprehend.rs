//! Tests enrichment by Amazon Comprehend, with the real binary and a mock provider that speaks Comprehend's protocol.

use crate::kit::{Ran, TestFolder};

#[cfg(not(feature = "aws"))]
#[test]
fn a_program_without_aws_says_so_and_touches_nothing() {
    let place = TestFolder::new();
    place.write("a.md", "# A\n\nSome words.");
    let ran = place.ingest(&["--set", "enrich.options.provider=comprehend"]);
    assert_ne!(ran.status.code(), Some(0));
    assert!(ran.err.contains("built without AWS"), "{}", ran.err);
    place.ingest(&[]).code(0);
    place.assert_complete(1);
}

#[cfg(feature = "aws")]
mod with_aws {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use docweir_mock_provider::{Act, AnalysisCharges, MockProvider, On, Options, Rule};
    use serde_json::Value;

    use super::*;
    use crate::kit::{Running, eventually, files};

    const SECRET_KEY: &str = "wJalrXUtnFEMIsecretDOnotLOG";

    /// Combines a folder of documents with a mock provider that analyses the documents.
    struct ComprehendTest {
        place: TestFolder,
        mock: MockProvider,
    }

    impl ComprehendTest {
        fn new(faults: Vec<Rule>) -> Self {
            let options = Options { faults, charges_by_text: true, ..Options::default() };
            Self { place: TestFolder::new(), mock: MockProvider::start(options).unwrap() }
        }

        fn command(&self, args: &[&str]) -> Command {
            let mut command = self.place.command(args);
            command
                .env("DOCWEIR__ENRICH__OPTIONS__PROVIDER", "comprehend")
                .env("DOCWEIR__ENRICH__OPTIONS__COMPREHEND__ENDPOINT", self.mock.comprehend_url())
                .env("DOCWEIR__ENRICH__OPTIONS__COMPREHEND__REQUESTS_PER_SECOND", "1000")
                .env("DOCWEIR__ENRICH__OPTIONS__COMPREHEND__BACKOFF_INITIAL_SECONDS", "0.05")
                .env("DOCWEIR__ENRICH__OPTIONS__COMPREHEND__DOWN_SECONDS", "0.2")
                .env("DOCWEIR__RETRY__WAITS_SECONDS", "[0.0, 0.1, 0.2]")
                .env("DOCWEIR__RETRY__ATTEMPTS", "12")
                .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
                .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
                .env("AWS_REGION", "eu-central-1");
            command
        }

        fn run(&self, args: &[&str]) -> Ran {
            Ran::of(self.command(args).output().unwrap())
        }

        fn ingest(&self, more: &[&str]) -> Ran {
            self.run(&[&["ingest", "docs", "--json", "--progress", "none"], more].concat())
        }

        fn charges(&self) -> AnalysisCharges {
            self.mock.charges().analysis
        }

        /// Returns three sums from the ledger in nanodollars: the settled amount, the reserved amount and the amount in
        /// doubt.
        fn sums(&self) -> (u64, u64, u64) {
            let ran = self.run(&["cost", "--by", "stage", "--json"]);
            let lines = ran.code(0).json();
            assert!(lines.iter().all(|l| l["name"] == "enrichment"), "{lines:?}");
            let sum = |name: &str| lines.iter().map(|l| (l[name].as_f64().unwrap() * 1e9).round() as u64).sum();
            (sum("usd"), sum("reserved_usd"), sum("in_doubt_usd"))
        }

        #[track_caller]
        fn assert_ledger_agree(&self) {
            let charged = self.charges().all.nanodollars;
            let (settled, reserved, doubt) = self.sums();
            assert_eq!(reserved, 0, "no reservation may be left");
            assert!(settled <= charged && charged <= settled + doubt, "{settled} {charged} {doubt}");
            assert!(doubt > 0 || settled == charged, "{settled} {charged}");
        }

        /// Reads the artefacts of the enrichment stage.
        fn enriched(&self) -> Vec<Value> {
            let all = self.place.artefacts("enriched/");
            all.values().map(|body| serde_json::from_slice(body).unwrap()).collect()
        }
    }

    fn holds(path: &Path, text: &str) -> bool {
        contains(&std::fs::read(path).unwrap_or_default(), text)
    }

    fn contains(body: &[u8], text: &str) -> bool {
        body.windows(text.len()).any(|w| w == text.as_bytes())
    }

    #[test]
    fn documents_are_enriched_by_a_service_that_fails_now_and_then() {
        let on = |act, probability| Rule::new(On::Detect, act).probability(probability);
        let shop = ComprehendTest::new(vec![
            on(Act::Throttle, 0.1),
            on(Act::Status, 0.05).code(500),
            on(Act::CutBefore, 0.05),
            on(Act::Garbage, 0.05),
            on(Act::ItemErrors, 0.1).share(0.2),
        ]);
        shop.place.generate(25);
        let ran = shop.ingest(&[]);
        let summary = ran.code(0).summary();
        assert!(!ran.out.contains(SECRET_KEY) && !ran.err.contains(SECRET_KEY), "{} {}", ran.out, ran.err);
        shop.place.assert_complete(25);
        let faults = shop.mock.charges().faults;
        assert!(faults.len() == 5, "{faults:?}");
        shop.assert_ledger_agree();
        let (settled, _, doubt) = shop.sums();
        assert!(doubt > 0);
        // The summary leaves out the cost of failed attempts; the ledger includes it.
        let cost = (summary["cost_usd"].as_f64().unwrap() * 1e9).round() as u64;
        assert!(cost > 0 && cost <= settled, "{cost} {settled}");

        let all = shop.enriched();
        let chunks: Vec<&Value> = all.iter().flat_map(|a| a["chunks"].as_array().unwrap()).collect();
        assert!(chunks.iter().all(|c| c["findings"]["sentiment"]["label"].is_string()), "{}", chunks[0]);
        assert!(chunks.iter().any(|c| !c["findings"]["key_phrases"].as_array().unwrap().is_empty()));
        for artefact in &all {
            assert_eq!(artefact["metadata"]["language"]["code"], "eng");
            let statistics = &artefact["statistics"];
            assert!(statistics["comprehend_calls"].is_number() && statistics["comprehend_units"].is_number());
            let chunks = artefact["chunks"].as_array().unwrap().len();
            assert_eq!(statistics["chunks_enriched"].as_f64(), Some(chunks as f64));
        }

        // A second run pays nothing. Copies of documents with the same text cost nothing either.
        let charges = shop.charges();
        shop.ingest(&[]).code(0);
        for seed in 0..5 {
            shop.place.write(format!("copy-{seed}.pdf"), docweir_testkit::two_pages(seed));
        }
        let again = shop.ingest(&[]).code(0).summary();
        assert_eq!((again["completed"].as_u64(), again["cost_usd"].as_f64()), (Some(5), Some(0.0)), "{again}");
        assert_eq!(shop.charges(), charges);
    }

    #[test]
    fn personal_data_is_in_no_artefact_index_or_log_after_redaction() {
        let shop = ComprehendTest::new(vec![Rule::new(On::Detect, Act::ItemErrors).share(0.3).times(4)]);
        let secrets = ["Jane Doe", "Carlos Ruiz", "jane.doe@example.com", "12 Elm Street", "+49 30 1234 5678"];
        let filler = "The quarterly report of the company was read with great interest by everybody in the room. ";
        let text = format!(
            "# About {}\n\n{} 👨‍👩‍👧 Re\u{301}sume\u{301} 漢字: {} wrote to {} from {}.\n\n## For {}\n\n{}\n\nCall {}. \
             {} signed, and {}.\n",
            secrets[0],
            filler.repeat(12),
            secrets[0],
            secrets[2],
            secrets[3],
            secrets[1],
            filler.repeat(20),
            secrets[4],
            secrets[1],
            secrets[0],
        );
        shop.place.write("letter.md", &text);
        // The limits are small, so that chunks and request texts end in the middle of sentences.
        let redact = [
            "--set",
            "enrich.options.redact=true",
            "--set",
            "enrich.options.comprehend.max_personal_bytes=600",
            "--set",
            "enrich.options.comprehend.max_text_bytes=300",
        ];
        let ran = Ran::of(
            shop.command(&[&["ingest", "docs", "--json", "--progress", "none"], &redact[..]].concat())
                .env("DOCWEIR__LOG__LEVEL", "debug")
                .output()
                .unwrap(),
        );
        ran.code(0);
        let state = shop.place.state();
        let all = files(&state);
        let checked: Vec<_> = all.iter().collect();
        let packed = shop.place.artefacts("");
        assert!(checked.iter().any(|p| p.ends_with("cache/findings.db")), "{checked:?}");
        for secret in secrets {
            for part in [secret, secret.split(' ').next_back().unwrap()] {
                for (key, body) in &packed {
                    assert!(part.len() < 5 || !contains(body, part), "{key} contains {part}");
                }
                for path in &checked {
                    // Parts under five characters are skipped, because a number in the statistics may happen to equal
                    // such a part.
                    assert!(part.len() < 5 || !holds(path, part), "{} contains {part}", path.display());
                }
                assert!(
                    part.len() < 5 || (!ran.out.contains(part) && !ran.err.contains(part)),
                    "{part} is in the output or the log"
                );
            }
            let found = shop.place.visible();
            assert!(found["letter.md"].iter().all(|text| !text.contains(secret)), "the index contains {secret}");
        }
        let enriched = shop.enriched();
        let kinds: BTreeSet<&str> = ["NAME", "EMAIL", "ADDRESS", "PHONE"]
            .into_iter()
            .filter(|k| enriched[0].to_string().contains(&format!("[REDACTED_{k}]")))
            .collect();
        assert_eq!(kinds.len(), 4, "{kinds:?}");
        assert!(enriched[0]["metadata"]["pii_redacted"].as_u64().unwrap() >= 8);
        shop.assert_ledger_agree();
    }

    #[test]
    fn a_run_that_is_killed_pays_twice_for_what_was_in_flight_and_for_nothing_else() {
        let clean = ComprehendTest::new(Vec::new());
        clean.place.generate(30);
        clean.ingest(&[]).code(0);
        let once = clean.charges().all.nanodollars;

        let shop = ComprehendTest::new(vec![Rule::new(On::Detect, Act::Slow).seconds(0.03)]);
        shop.place.generate(30);
        for kill in 1..=3 {
            let mut command = shop.command(&["ingest", "docs", "--json", "--progress", "none"]);
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let mut running = Running::of(child);
            eventually("some requests are answered", || {
                shop.charges().all.requests >= kill * 12 || !running.is_running()
            });
            running.signal(rustix::process::Signal::KILL);
            running.finish();
        }
        shop.mock.set_faults(Vec::new()).unwrap();
        shop.ingest(&[]).code(0);
        shop.place.assert_complete(30);
        let (charged, (_, _, doubt)) = (shop.charges().all.nanodollars, shop.sums());
        assert!(
            charged <= once + doubt,
            "charged {charged}, which is more than a run without kills ({once}) plus the amount in doubt ({doubt})"
        );
        assert!(
            doubt > 0 && charged < 2 * once,
            "{doubt} in doubt and {charged} charged; a run without kills is charged {once}"
        );
        shop.assert_ledger_agree();
    }

    #[test]
    fn what_is_estimated_is_what_is_charged() {
        let shop = ComprehendTest::new(Vec::new());
        shop.place.generate(6);
        let estimate = shop.run(&["estimate", "docs", "--json"]);
        let estimate = estimate.code(0).json().pop().unwrap();
        assert_eq!(shop.charges().all.requests, 0, "an estimate must not call the service");
        shop.ingest(&[]).code(0);
        let charges = shop.charges().all;
        assert_eq!(estimate["enrichment_units"], charges.units, "{estimate}");
        assert_eq!((estimate["enrichment_usd"].as_f64().unwrap() * 1e9).round() as u64, charges.nanodollars);
        // A document whose findings are cached costs nothing.
        shop.place.write("copy.pdf", docweir_testkit::two_pages(3));
        let again = shop.run(&["estimate", "docs", "--json"]).code(0).json().pop().unwrap();
        assert_eq!((&again["documents"], &again["enrichment_units"]), (&1.into(), &0.into()), "{again}");
    }

    #[test]
    fn documents_wait_for_money_and_go_on_with_it() {
        let shop = ComprehendTest::new(Vec::new());
        shop.place.generate(8);
        let summary = shop.ingest(&["--set", "budget.run_usd=0.02"]).code(6).summary();
        let (done, parked) = (summary["completed"].as_u64().unwrap(), summary["parked"].as_u64().unwrap());
        assert!(parked > 0 && done + parked == 8, "{summary}");
        assert!(shop.charges().all.nanodollars <= 20_000_000);
        shop.ingest(&[]).code(0);
        shop.place.assert_complete(8);
        shop.assert_ledger_agree();
        assert_eq!(shop.charges().texts_paid_twice(), Vec::<&str>::new());
    }

    #[test]
    fn a_language_that_nobody_knows_is_a_note_and_no_failure() {
        let shop = ComprehendTest::new(Vec::new());
        let polish = "To nie jest zdanie po angielsku, lecz po polsku, oraz zawiera bardzo wiele słów o umowach. ";
        shop.place.write("umowa.md", format!("# Umowa\n\n{}", polish.repeat(30)));
        let summary = shop.ingest(&[]).code(0).summary();
        assert_eq!(summary["completed"], 1, "{summary}");
        let notes = shop.enriched()[0]["metadata"]["notes"].to_string();
        assert!(notes.contains("entities, key phrases, sentiment, personal data in `pol`"), "{notes}");
        let charges = shop.charges();
        assert_eq!(charges.by_operation.keys().collect::<Vec<_>>(), ["language"]);
        assert_eq!(charges.refused.len(), 0, "no request may be refused: {charges:?}");
    }

    #[test]
    fn one_stage_alone_shows_what_was_found_and_is_in_the_ledger_where_there_are_some() {
        let shop = ComprehendTest::new(Vec::new());
        let path =
            shop.place.write("a.md", "# A\n\nA terrible loss of Acme Widget Inc, told by Jane Doe in a long letter.");
        let path = path.to_str().unwrap();
        let ran = shop.run(&["stage", "enrich", path]);
        assert!(ran.code(0).out.contains("negative") && ran.out.contains("Acme Widget Inc"), "{}", ran.out);
        assert!(!shop.place.state().exists(), "`stage` must not create a state folder");
        shop.ingest(&[]).code(0);
        let before = shop.charges().all.nanodollars;
        shop.run(&["stage", "enrich", path]).code(0);
        assert_eq!(shop.charges().all.nanodollars, before, "cached findings must not be requested again");
    }

    #[test]
    fn what_is_erased_is_forgotten_by_the_cache_of_findings() {
        let shop = ComprehendTest::new(Vec::new());
        shop.place.generate(2);
        shop.ingest(&[]).code(0);
        let charges = shop.charges();
        shop.run(&["erase", "docs/0001.pdf"]).code(0);
        // The findings of the other document are still cached; those of the erased document are not.
        shop.ingest(&["--set", "chunk.options.table_max_chars=1999"]).code(0);
        let again = shop.charges();
        assert!(again.all.nanodollars > charges.all.nanodollars);
        let twice: Vec<_> = again.texts_paid_twice();
        assert!(
            !twice.is_empty() && twice.len() < charges.by_text.len(),
            "{} of {}",
            twice.len(),
            charges.by_text.len()
        );
    }

    #[test]
    fn a_region_that_nobody_names_is_asked_for() {
        let shop = ComprehendTest::new(Vec::new());
        shop.place.generate(1);
        let mut command = shop.command(&["ingest", "docs", "--progress", "none"]);
        command.env_remove("AWS_REGION").env_remove("AWS_DEFAULT_REGION").env("AWS_EC2_METADATA_DISABLED", "true");
        command.env("AWS_CONFIG_FILE", "/nonexistent").env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent");
        let ran = Ran::of(command.output().unwrap());
        assert!(ran.status.code() != Some(0) && ran.err.contains("no region is configured"), "{}", ran.err);
    }

    #[test]
    fn a_missing_permission_is_an_outage_and_held_against_no_document() {
        let shop = ComprehendTest::new(vec![Rule::new(On::Detect, Act::Status).code(403)]);
        shop.place.generate(2);
        let ran = shop.ingest(&["--set", "retry.outage_seconds=2", "--set", "retry.alone_seconds=1"]);
        ran.code(70);
        assert!(ran.err.contains("AccessDenied") && ran.err.contains("policy"), "{}", ran.err);
        shop.mock.set_faults(Vec::new()).unwrap();
        shop.ingest(&[]).code(0);
        shop.place.assert_complete(2);
    }
}
