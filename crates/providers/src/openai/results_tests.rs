use proptest::prelude::*;

use super::*;

fn read(from: impl Read + Send, options: ReadOptions) -> io::Result<Vec<ItemResult>> {
    let mut all = Vec::new();
    read_results(from, 2, options, |group| {
        all.extend(group);
        Ok(())
    })
    .map(|()| all)
}

/// Returns the results as text, in sorted order.
fn sorted(outcomes: impl IntoIterator<Item = ItemResult>) -> Vec<String> {
    let mut texts: Vec<_> = outcomes.into_iter().map(|outcome| format!("{outcome:?}")).collect();
    texts.sort();
    texts
}

fn row(id: usize) -> String {
    format!(r#"{{"custom_id":"{id}","response":{{"status_code":200,"body":{{"data":[{{"embedding":[{id},1]}}]}}}}}}"#)
}

#[test]
fn each_item_comes_once_and_bad_lines_cost_nothing_else() {
    let mut file: String = (0..1_000).map(|id| row(id) + "\n").collect();
    file += "\n \r\n{\"custom_id\":\n";
    file += &row(1_000);
    file += &format!("\n{}", &row(1_001)[..30]);
    for (threads, block_bytes) in [(1, 1), (3, 100), (2, 4_000), (4, 1 << 20), (0, 0)] {
        let options = ReadOptions { threads, block_bytes, ..ReadOptions::default() };
        let outcomes = read(file.as_bytes(), options).unwrap();
        let mut rows = 0;
        let mut bad = Vec::new();
        for outcome in &outcomes {
            match outcome {
                ItemResult::Row { custom_id, vector, .. } => {
                    let id: f32 = custom_id.parse().unwrap();
                    assert!((vector[0] / vector[1] - id).abs() < id * 1e-5 + 1e-6, "{custom_id} {vector:?}");
                    rows += 1;
                }
                ItemResult::Bad { line, .. } => bad.push(*line),
                other => panic!("{other:?}"),
            }
        }
        bad.sort();
        assert_eq!((rows, bad), (1_001, vec![1_003, 1_005]), "{options:?}");
    }
}

#[test]
fn an_over_long_line_is_one_bad_line() {
    let options = ReadOptions { max_line_bytes: 100, block_bytes: 64, threads: 2 };
    let long = [row(1), "x".repeat(10_000), " ".repeat(101), row(2), "[".repeat(500)].join("\n");
    let why = "the line exceeds the length limit";
    let expected = [2, 3, 5].map(|line| ItemResult::Bad { line, why });
    let outcomes = read(long.as_bytes(), options).unwrap();
    let bad: Vec<_> = outcomes.iter().filter(|o| matches!(o, ItemResult::Bad { .. })).cloned().collect();
    assert_eq!((sorted(bad), outcomes.len()), (sorted(expected), 5));
}

#[test]
fn who_takes_them_may_end_it_and_a_broken_disk_does() {
    struct Endless(u64);
    impl Read for Endless {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("the disk is gone"));
            }
            self.0 = self.0.saturating_sub(to.len() as u64);
            to.fill(b'\n');
            to[0] = b'x';
            Ok(to.len())
        }
    }
    let options = ReadOptions { block_bytes: 1_000, ..ReadOptions::default() };
    let mut groups = 0;
    let ended = read_results(Endless(u64::MAX), 2, options, |_| {
        groups += 1;
        if groups == 3 { Err(io::Error::other("enough")) } else { Ok(()) }
    });
    assert_eq!((ended.unwrap_err().to_string(), groups), ("enough".into(), 3));
    assert_eq!(read(Endless(50_000), options).unwrap_err().to_string(), "the disk is gone");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Checks that blocks and threads do not affect the results: each line that is not blank has exactly one result.
    #[test]
    fn files_are_their_lines(
        lines in proptest::collection::vec(prop_oneof![
            "[ \\t\\r]{0,30}".prop_map(String::into_bytes),
            (0usize..99).prop_map(|id| row(id).into_bytes()),
            proptest::collection::vec(any::<u8>(), 0..150),
        ], 0..20),
        threads in 1usize..4,
        block_bytes in 1usize..300,
    ) {
        let max_line_bytes = 90;
        let file = lines.join(&b'\n');
        let expected = file.split(|byte| *byte == b'\n').zip(1..).filter_map(|(line, number)| match line {
            long if long.len() > max_line_bytes => {
                Some(ItemResult::Bad { line: number, why: "the line exceeds the length limit" })
            }
            blank if blank.trim_ascii().is_empty() => None,
            line => Some(outcome(line, number, 2)),
        });
        let read = read(&file[..], ReadOptions { max_line_bytes, threads, block_bytes }).unwrap();
        prop_assert_eq!(sorted(read), sorted(expected));
    }
}

#[test]
fn a_compressed_file_is_read_like_the_file_itself() {
    let dir = tempfile::tempdir().unwrap();
    let lines: String = (0..500).map(|id| row(id) + "\n").collect();
    let (plain, packed) = (dir.path().join("plain"), dir.path().join("packed"));
    std::fs::write(&plain, &lines).unwrap();
    let mut to = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
    std::io::Write::write_all(&mut to, lines.as_bytes()).unwrap();
    to.finish().unwrap();
    std::fs::write(dir.path().join("empty"), "").unwrap();
    let read = |path: &Path| sorted(read(open_results(path).unwrap(), ReadOptions::default()).unwrap());
    assert_eq!(read(&plain).len(), 500);
    assert_eq!(read(&packed), read(&plain));
    assert_eq!(read(&dir.path().join("empty")).len(), 0);
}
