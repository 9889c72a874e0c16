//! `docweir search`: passages.

use std::io::{BufReader, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use docweir_core::cancel::Cancel;
use docweir_index::{Hit, SearchRequest, View};
use docweir_stages::embed::{Call, Embedder};

use super::args::{self, Mode, Progress};
use super::context::Context;
use super::hits::{self, Answer, Passage};
use super::output::{complain, printable};
use super::progress::{Fetch, Reporter, Style};
use super::{filters, queries};
use crate::config::{Argument, SearchMode, Settings};
use crate::engine::{Engine, Payer};
use crate::exit::{Exit, Failure};

pub fn run(context: &Context, args: &args::Search) -> Result<Exit, Failure> {
    let config = context.config_with(arguments(args))?;
    let questions = questions(args)?;
    let filter = filters::parse(&args.filter, args.source.as_deref(), &context.here)?;
    context.block_on(async {
        let engine = Engine::open(config).await?;
        let vectors = engine.vectors()?;
        if vectors.manifest().await?.is_none() {
            let text =
                format!("the index at {} is empty: `docweir ingest FOLDER` fills it", engine.state.root().display());
            return Err(Failure::no(text));
        }
        let settings = &engine.config.settings;
        let embedder = match settings.search.mode {
            SearchMode::FullText => None,
            SearchMode::Hybrid | SearchMode::Vector => Some(embedder(&engine).await?),
        };
        let view = match args.as_of {
            Some(version) => vectors.view_at(version).await?,
            None => vectors.view().await?,
        };
        let search = Search { view, embedder, settings, filter, exact: args.exact };
        let mut found = 0;
        for (i, question) in questions.iter().enumerate() {
            let hits = search.one(question).await?;
            found += hits.len();
            if args.json {
                let results = hits.iter().map(Passage::of).collect();
                context.out.json(&Answer { question, results });
                continue;
            }
            if args.queries.is_some() {
                let gap = if i > 0 { "\n" } else { "" };
                context.out.line(format!("{gap}{}\n", context.out.bold(&printable(question))));
            }
            print(&hits, context);
        }
        if found == 0 && args.queries.is_none() {
            if !args.json {
                complain(nothing(args));
            }
            return Ok(Exit::No);
        }
        Ok(Exit::Well)
    })
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
    // `{:?}` keeps the point: `1` alone would be a whole number.
    list.extend(args.weight.map(|w| Argument::new("--weight", "search.weight", format!("{w:?}"))));
    list
}

fn questions(args: &args::Search) -> Result<Vec<String>, Failure> {
    match &args.queries {
        Some(path) if path == Path::new("-") => queries::read(std::io::stdin().lock(), "standard input"),
        Some(path) => {
            let file =
                std::fs::File::open(path).map_err(|e| Failure::usage(format!("can't read {}: {e}", path.display())))?;
            queries::read(BufReader::new(file), &path.display().to_string())
        }
        None => match args.query.join(" ").trim() {
            "" => Err(Failure::usage("the query is empty: say what to look for")),
            query => Ok(vec![query.to_owned()]),
        },
    }
}

/// The model, with its fetch shown where this is the machine's first use of it.
async fn embedder(engine: &Engine) -> Result<Arc<dyn Embedder>, Failure> {
    let style = Style::of(Progress::Auto, false, std::io::stderr().is_terminal());
    let reporter = Reporter::start(style);
    let embedder = engine.embedder(Payer::search(), &|fetched| reporter.fetch(Fetch::from(fetched))).await;
    reporter.end();
    Ok(embedder?)
}

struct Search<'a> {
    view: Arc<View>,
    embedder: Option<Arc<dyn Embedder>>,
    settings: &'a Settings,
    filter: Option<docweir_index::Filter>,
    exact: bool,
}

impl Search<'_> {
    async fn one(&self, question: &str) -> Result<Vec<Hit>, Failure> {
        use docweir_index::Mode;
        let vector = match &self.embedder {
            Some(embedder) => Some(query_vector(embedder.as_ref(), question).await?),
            None => None,
        };
        let mode = match self.settings.search.mode {
            SearchMode::Hybrid => Mode::Hybrid { weight: self.settings.search.weight as f32 },
            SearchMode::Vector => Mode::Vector,
            SearchMode::FullText => Mode::FullText,
        };
        let request = SearchRequest {
            mode,
            filter: self.filter.clone(),
            exact: self.exact,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            ..SearchRequest::new(question, vector, self.settings.search.top)
        };
        Ok(self.view.search(&request)?)
    }
}

async fn query_vector(embedder: &dyn Embedder, question: &str) -> Result<Vec<f32>, Failure> {
    let tokens = embedder.count_tokens(question);
    if tokens > embedder.window() {
        let (id, window) = (&embedder.identity().id, embedder.window());
        let text =
            format!("the query has {tokens} tokens and model {id} sees {window}: shorten it, or try --mode full-text");
        return Err(Failure::usage(text));
    }
    let call = Call { subject: "search", collection: None, cancel: &Cancel::default() };
    let embedded = embedder.embed(vec![question.to_owned()], call).await;
    let batch = embedded.map_err(|e| Failure::system(format!("can't embed the query: {e}")))?;
    let vector = batch.vectors.into_iter().next();
    let vector = vector.ok_or_else(|| Failure::system("can't embed the query: the model gave no vector"))?;
    vector.map_err(|e| Failure::system(format!("can't embed the query: {e}")))
}

fn print(hits: &[Hit], context: &Context) {
    for (i, hit) in hits.iter().enumerate() {
        if i > 0 {
            context.out.line("");
        }
        for line in hits::lines(i + 1, hit, &context.out, &context.here) {
            context.out.line(line);
        }
    }
}

fn nothing(args: &args::Search) -> &'static str {
    match (args.filter.is_empty() && args.source.is_none(), args.mode) {
        (false, _) => "nothing found: the filters may leave nothing, try without them",
        (true, Some(Mode::FullText)) => "nothing found: no passage has one of these words, try --mode hybrid",
        (true, _) => "nothing found: the index holds no passages; `docweir status` shows what is in it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Command};
    use crate::config::{Config, Source};
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
    fn an_empty_query_is_a_mistake() {
        let failure = questions(&parse("docweir search  ")).unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
    }
}
