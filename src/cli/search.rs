//! Implements `docweir search`, which prints the passages that match a query.

use std::io::{BufReader, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use docweir_stages::embed::Embedder;

use super::args::{self, Mode, Progress};
use super::context::Context;
use super::output::{print_error, printable};
use super::progress::{Fetch, Reporter, Style};
use super::unknown_collection::unknown_collection;
use super::{hits, queries};
use crate::config::Argument;
use crate::engine::{Engine, Payer};
use crate::exit::{EngineError, Exit, Failure};
use crate::search::{
    Cause, Filter, FilterError, LazyEmbedder, Passage, QueryOptions, SearchError, SearchService, ServiceOptions, filter,
};

pub fn run(context: &Context, args: &args::Search) -> Result<Exit, Failure> {
    let config = context.config_with(arguments(args))?;
    let questions = questions(args)?;
    let filter = filters(args, &context.here).map_err(wrong_filter)?;
    context.block_on(async {
        let engine = Arc::new(Engine::open_to_read(config).await?);
        let options = QueryOptions {
            as_of: args.as_of,
            filter,
            exact: args.exact,
            per_document: args.per_document,
            explain: args.explain,
            ..QueryOptions::from(&engine.config.settings.search)
        };
        let session = match service(&engine).session(options).await {
            Ok(session) => session,
            Err(SearchError::UnknownCollection { .. }) => return Err(unknown_collection(&engine).await),
            Err(error) => return Err(failure(error)),
        };
        let mut found = 0;
        for (i, question) in questions.iter().enumerate() {
            let answer = session.search(question).await.map_err(failure)?;
            found += answer.results.len();
            if args.json {
                context.out.json(&answer);
                continue;
            }
            if args.queries.is_some() {
                let gap = if i > 0 { "\n" } else { "" };
                context.out.line(format!("{gap}{}\n", context.out.bold(&printable(question))));
            }
            print(&answer.results, context);
        }
        if found == 0 && args.queries.is_none() {
            if !args.json {
                print_error(nothing(args));
            }
            return Ok(Exit::Failed);
        }
        Ok(Exit::Success)
    })
}

/// Creates a search service for the configured collection.
fn service(engine: &Arc<Engine>) -> SearchService {
    let options = ServiceOptions::new(engine.config.settings.state.collection.clone());
    let shared = engine.clone();
    let embedder = LazyEmbedder::new(move || embedder(shared.clone()));
    SearchService::new(engine.open_collection(), embedder, options)
}

fn filters(args: &args::Search, here: &Path) -> Result<Option<Filter>, FilterError> {
    let typed = filter::parse_all(&args.filter, here)?;
    let under = args.source.as_deref().map(|path| filter::under(path, here));
    Ok(Filter::all(typed.into_iter().chain(under)))
}

fn wrong_filter(error: FilterError) -> Failure {
    Failure::usage(format!("--filter '{}', column {}: {}", error.filter, error.column, error.reason))
}

/// Converts a search error into the failure of the command. The failure message names an option or a command that
/// solves the problem.
fn failure(error: SearchError) -> Failure {
    match error {
        SearchError::UnknownCollection { .. } => Failure::no(error.to_string()),
        SearchError::BadQuery { reason, .. } => Failure::usage(reason),
        SearchError::BadFilter(error) => wrong_filter(error),
        SearchError::TextTooLong { tokens, window, model } => {
            let text = format!("the query has {tokens} tokens, but model {model} accepts at most {window}");
            Failure::usage(format!("{text}: shorten the query or use --mode full-text"))
        }
        SearchError::NoEmbedder(cause) => match cause.downcast_ref::<EngineError>() {
            Some(error) => error.clone().into(),
            None => Failure::system(cause.to_string()),
        },
        SearchError::BadCollection(error)
        | SearchError::UnknownVersion(error)
        | SearchError::ModelMismatch(error)
        | SearchError::Index(error) => error.into(),
        SearchError::Embedding(_) | SearchError::Interrupted(_) => Failure::system(error.to_string()),
    }
}

fn arguments(args: &args::Search) -> Vec<Argument> {
    let mode = args.mode.map(|mode| match mode {
        Mode::Hybrid => "hybrid",
        Mode::Vector => "vector",
        Mode::FullText => "full_text",
    });
    let mut list = Vec::new();
    list.extend(args.collection.as_ref().map(|c| Argument::new("--collection", "state.collection", c.clone())));
    list.extend(args.k.map(|k| Argument::new("-k", "search.top", k.to_string())));
    list.extend(mode.map(|mode| Argument::new("--mode", "search.mode", mode)));
    // `{:?}` keeps the decimal point: `1` alone would be parsed as an integer.
    list.extend(args.weight.map(|w| Argument::new("--weight", "search.weight", format!("{w:?}"))));
    list
}

fn questions(args: &args::Search) -> Result<Vec<String>, Failure> {
    match &args.queries {
        Some(path) if path == Path::new("-") => queries::read(std::io::stdin().lock(), "standard input"),
        Some(path) => {
            let file = std::fs::File::open(path)
                .map_err(|e| Failure::usage(format!("cannot read {}: {e}", path.display())))?;
            queries::read(BufReader::new(file), &path.display().to_string())
        }
        None => match args.query.join(" ").trim() {
            "" => Err(Failure::usage("the query is empty: pass the text to search for")),
            query => Ok(vec![query.to_owned()]),
        },
    }
}

/// Opens the embedder. If the model must be downloaded before it is opened, the progress of the download is shown.
async fn embedder(engine: Arc<Engine>) -> Result<Arc<dyn Embedder>, Cause> {
    let style = Style::of(Progress::Auto, false, std::io::stderr().is_terminal());
    let reporter = Reporter::start(style);
    let embedder = engine.embedder(Payer::search(), &|fetched| reporter.fetch(Fetch::from(fetched))).await;
    reporter.end();
    embedder.map_err(|error| Arc::new(error) as Cause)
}

fn print(passages: &[Passage], context: &Context) {
    for (i, passage) in passages.iter().enumerate() {
        if i > 0 {
            context.out.line("");
        }
        for line in hits::lines(i + 1, passage, &context.out, &context.here) {
            context.out.line(line);
        }
    }
}

fn nothing(args: &args::Search) -> &'static str {
    if args.filter.iter().any(|text| filter::has_list(text)) {
        return "nothing found: commas in a filter separate alternatives; write FIELD=\"a, b\" for a value with a comma";
    }
    if args.mode != Some(Mode::Vector) && args.query.iter().any(|word| word.contains(['"', '“', '„', '«', '「']))
    {
        return "nothing found: no passage contains the phrase in quotation marks; try without quotation marks";
    }
    match (args.filter.is_empty() && args.source.is_none(), args.mode) {
        (false, _) => "nothing found: the filters may exclude every passage; try without filters",
        (true, Some(Mode::FullText)) => "nothing found: no passage contains any of these words; try --mode hybrid",
        (true, _) => "nothing found: the index contains no passages; see `docweir status`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use crate::config::{Config, SearchMode, Source};
    use clap::Parser;

    fn parse(line: &str) -> args::Search {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Search(search) => search,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn arguments_become_settings_and_are_checked_as_such() {
        let search = parse("docweir search -k 3 --mode full-text --weight 1 fencing token");
        let settings = Config::load(&Source::None, [], arguments(&search)).unwrap().settings;
        assert_eq!((settings.search.top, settings.search.mode, settings.search.weight), (3, SearchMode::FullText, 1.0));
        assert_eq!(questions(&search).unwrap(), ["fencing token"]);
        let bad = Config::load(&Source::None, [], arguments(&parse("docweir search -k 0 x"))).unwrap_err();
        let failure = Failure::from(bad);
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.lines[0].starts_with("argument -k: `search.top` must"), "{failure:?}");
    }

    #[test]
    fn a_bad_filter_names_its_option() {
        let failure =
            wrong_filter(filters(&parse("docweir search --filter colour=red x"), Path::new("/")).unwrap_err());
        assert_eq!(failure.exit, Exit::Usage);
        assert!(
            failure.lines[0].starts_with("--filter 'colour=red', column 1: `colour` is not a field; "),
            "{failure:?}"
        );
        let both = filters(&parse("docweir search --filter kind=table --source /x/ y"), Path::new("/")).unwrap();
        assert_eq!(both, Filter::all([Filter::eq("kind", "table"), Filter::prefix("source", "file:///x/")]));
    }

    #[test]
    fn a_search_without_results_says_what_may_be_wrong() {
        for (line, expected) in [
            ("docweir search --filter metadata.owner=a,b x", "commas in a filter separate alternatives"),
            ("docweir search --filter metadata.owner=a x", "try without filters"),
            ("docweir search --mode full-text x", "try --mode hybrid"),
            ("docweir search \"x y\"", "no passage contains the phrase"),
        ] {
            assert!(nothing(&parse(line)).contains(expected), "{line}");
        }
    }

    #[test]
    fn an_empty_query_is_a_mistake() {
        let failure = questions(&parse("docweir search  ")).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }
}
