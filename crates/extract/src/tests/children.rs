//! Tests real child processes in real time. Each child is this test program again, restricted to the test function
//! `child`.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use docweir_core::cancel::Cancel;
use docweir_core::error::ErrorClass;

use super::super::protocol::Fault;
use super::super::*;
use super::pdfs::{PdfWriter, prose};

/// Runs as the child process of the other tests; it tests nothing itself.
#[test]
#[ignore = "runs as the child of the other tests"]
#[expect(clippy::disallowed_methods, reason = "a child must exit with its own code")]
fn child() {
    let code = worker_main();
    std::process::exit(if code == std::process::ExitCode::SUCCESS { 0 } else { 4 });
}

fn program() -> ChildProgram {
    let test = module_path!().split_once("::").map(|(_, m)| format!("{m}::child")).unwrap();
    let args = ["--exact", &test, "--nocapture", "--ignored", "--test-threads=1"].map(str::to_owned);
    ChildProgram { program: std::env::current_exe().unwrap(), args: args.to_vec() }
}

fn quick() -> ExtractOptions {
    ExtractOptions { deadline_seconds: 20, memory_limit_bytes: 128 << 20, ..Default::default() }
}

fn extractor(options: ExtractOptions) -> Extractor {
    Extractor::new(options, program())
}

fn pdf(word: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&PdfWriter::new(vec![prose(50, 100, 4, word), prose(50, 100, 4, word)]).bytes()).unwrap();
    file
}

async fn run(extractor: &mut Extractor, word: &str) -> Result<ExtractedDocument, StageError> {
    extractor.extract(pdf(word), InputHint::default(), &Cancel::default()).await
}

/// Asserts that the extractor can read the next document after a fault.
async fn recovers(extractor: &mut Extractor) {
    extractor.fault = None;
    assert_eq!(run(extractor, "next").await.unwrap().pages.len(), 2);
}

#[tokio::test]
async fn a_child_reads_many_documents_and_says_the_same_as_the_function() {
    let mut extractor = extractor(quick());
    for word in ["one", "two", "three"] {
        let document = run(&mut extractor, word).await.unwrap();
        let bytes = PdfWriter::new(vec![prose(50, 100, 4, word), prose(50, 100, 4, word)]).bytes();
        assert_eq!(document, extract_in_process(bytes, MediaType::Pdf, &quick()).unwrap());
    }
    assert_eq!(extractor.stats(), ExtractorStats { children_started: 1, ..Default::default() });
    // The child survives a refusal.
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"%PDF-1.4 nothing").unwrap();
    let refusal = extractor.extract(file, InputHint::default(), &Cancel::default()).await.unwrap_err();
    assert_eq!(refusal.code, "damaged_pdf");
    recovers(&mut extractor).await;
    assert_eq!(extractor.stats().children_started, 1);
}

/// Opens a descriptor without close-on-exec in the parent, so that a child inherits it. The child must close this
/// descriptor at its start.
#[tokio::test]
async fn a_child_inherits_no_descriptor_and_gains_no_privileges() {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    secret.write_all(b"secret").unwrap();
    let leaked = rustix::io::dup(&secret).unwrap();
    assert!(!rustix::io::fcntl_getfd(&leaked).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    let mut extractor = extractor(quick());
    run(&mut extractor, "one").await.unwrap();
    let child = std::path::PathBuf::from(format!("/proc/{}", extractor.child_id().unwrap()));
    let open: Vec<_> = std::fs::read_dir(child.join("fd"))
        .unwrap()
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap())
        .collect();
    assert!(!open.iter().any(|target| target == secret.path()), "{open:?}");
    assert!(open.len() <= 4, "standard input, output and error, and a copy of the socket: {open:?}");
    // In this test program, a thread of the test harness plays the main thread of the child.
    let mut threads = std::fs::read_dir(child.join("task")).unwrap().map(|task| task.unwrap().path().join("status"));
    assert!(threads.any(|status| std::fs::read_to_string(status).unwrap().contains("NoNewPrivs:\t1")));
}

#[tokio::test]
async fn text_and_markdown_pass_through_a_child_too() {
    let mut extractor = extractor(quick());
    for (name, expected) in [("a.md", MediaType::Markdown), ("a.txt", MediaType::Text)] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"# A title\n\ntext\n").unwrap();
        let hint = InputHint { media_type: None, name: Some(name.into()) };
        let document = extractor.extract(file, hint, &Cancel::default()).await.unwrap();
        assert_eq!((document.media_type, document.pages[0].text.as_str()), (expected, "# A title\n\ntext\n"));
    }
}

#[tokio::test]
async fn every_death_is_named_and_costs_one_document() {
    let table = [
        (Fault::Panic, ErrorClass::Crash, "extractor_panic", "panicked"),
        (Fault::Abort, ErrorClass::Crash, "extractor_died", "SIGABRT"),
        (Fault::Exit, ErrorClass::Crash, "extractor_died", "status 7"),
        (Fault::EatMemory, ErrorClass::Crash, "extractor_memory", "memory_limit_bytes"),
        (Fault::HugeFrame, ErrorClass::Crash, "extractor_protocol", "message of"),
        (Fault::Garbage, ErrorClass::Crash, "extractor_protocol", "unreadable frame"),
        (Fault::Flood, ErrorClass::Crash, "extractor_protocol", "an invalid page"),
    ];
    let mut extractor = extractor(quick());
    for (fault, class, code, says) in table {
        extractor.fault = Some(fault);
        let error = run(&mut extractor, "x").await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (class, code), "{fault:?}: {error}");
        assert!(error.message.contains(says), "{fault:?}: {error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        recovers(&mut extractor).await;
    }
}

#[tokio::test]
async fn time_is_limited_in_every_sense() {
    let table = [
        (Fault::Sleep, ExtractOptions { deadline_seconds: 1, ..quick() }, "extractor_deadline", ErrorClass::Timeout),
        (Fault::Sleep, ExtractOptions { stall_seconds: 1, ..quick() }, "extractor_stalled", ErrorClass::Timeout),
        (Fault::Spin, ExtractOptions { cpu_seconds: 1, ..quick() }, "extractor_cpu", ErrorClass::Permanent),
    ];
    for (fault, options, code, class) in table {
        let mut extractor = extractor(options);
        extractor.fault = Some(fault);
        let error = run(&mut extractor, "x").await.unwrap_err();
        assert_eq!((error.class, error.code.as_str()), (class, code), "{error}");
        recovers(&mut extractor).await;
    }
}

#[tokio::test]
async fn what_fails_after_the_pages_costs_only_the_information() {
    for fault in [Fault::DieInInfo, Fault::HangInInfo] {
        let mut extractor = extractor(ExtractOptions { info_seconds: 1, ..quick() });
        extractor.fault = Some(fault);
        let document = run(&mut extractor, "x").await.unwrap();
        assert_eq!(document.pages[0].text, "kept", "{fault:?}");
        assert_eq!(document.notes, ["document information and outline could not be read"], "{fault:?}");
        recovers(&mut extractor).await;
    }
}

#[tokio::test]
async fn a_result_over_its_limit_is_refused() {
    let mut extractor = extractor(ExtractOptions { max_result_bytes: 1000, ..quick() });
    let error = run(&mut extractor, "x").await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "result_too_large"), "{error}");
    let mut extractor = super::children::extractor(ExtractOptions { max_frame_bytes: 500, ..quick() });
    let error = run(&mut extractor, "x").await.unwrap_err();
    assert_eq!((error.class, error.code.as_str()), (ErrorClass::Permanent, "page_too_large"), "{error}");
}

fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| !s.contains(") Z "))
}

fn children_of_this_thread() -> Vec<u32> {
    let list = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|p| p.parse().ok()).collect()
}

#[tokio::test]
async fn dropping_the_future_or_cancelling_ends_the_work() {
    let mut extractor = extractor(quick());
    extractor.fault = Some(Fault::Spin);
    let cancel = Cancel::default();
    let started = {
        let work = extractor.extract(pdf("x"), InputHint::default(), &cancel);
        let waited = tokio::time::timeout(Duration::from_millis(500), work);
        let (outcome, pids) = tokio::join!(waited, async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            children_of_this_thread()
        });
        assert!(outcome.is_err(), "it spins");
        pids
    };
    assert_eq!(started.len(), 1, "one child");
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if !alive(started[0]) {
            break;
        }
    }
    assert!(!alive(started[0]), "the child outlives its future");

    let stop = cancel.clone();
    let (outcome, ()) = tokio::join!(extractor.extract(pdf("x"), InputHint::default(), &cancel), async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        stop.cancel();
    });
    assert_eq!(outcome.unwrap_err().code, "cancelled");
    recovers(&mut extractor).await;
}

#[tokio::test]
async fn children_are_replaced_after_their_documents_and_when_they_have_died_idle() {
    let mut extractor = extractor(ExtractOptions { max_documents_per_child: 2, ..quick() });
    for _ in 0..5 {
        run(&mut extractor, "x").await.unwrap();
    }
    let expected = ExtractorStats { children_started: 3, children_recycled: 2, children_lost: 0 };
    assert_eq!(extractor.stats(), expected);
    let idle = children_of_this_thread();
    let pid = rustix::process::Pid::from_raw(*idle.last().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    run(&mut extractor, "x").await.unwrap();
    assert_eq!(extractor.stats().children_started, 4);
}

#[tokio::test]
async fn a_program_that_is_no_child_is_a_failure_of_the_system() {
    for program in ["/nonexistent", "/bin/true"] {
        let program = ChildProgram { program: program.into(), args: vec![] };
        let mut extractor = Extractor::new(quick(), program);
        let error = run(&mut extractor, "x").await.unwrap_err();
        // The program exits at once. The extractor notices this while it sends the request or while it reads the reply.
        assert!(matches!(error.class, ErrorClass::System | ErrorClass::Crash), "{error}");
    }
}
