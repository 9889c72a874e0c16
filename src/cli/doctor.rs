//! Implements `docweir doctor`, which checks everything that a run needs.

use std::sync::Arc;

use docweir_core::clock::{SharedClock, SystemClock};

use super::args;
use super::context::Context;
use super::output::plural;
use crate::doctor::{Finding, Verdict, examine};
use crate::exit::{Exit, Failure};

/// Width of the column with the names of checks, in characters.
const WIDTH: usize = 12;

pub fn run(context: &Context, args: &args::Json) -> Result<Exit, Failure> {
    let config = context.config()?;
    let clock: SharedClock = Arc::new(SystemClock);
    let (mut problems, mut warnings) = (0, 0);
    context.block_on(async {
        let mut each = |finding: Finding| {
            problems += u64::from(finding.verdict == Verdict::Problem);
            warnings += u64::from(finding.verdict == Verdict::Warning);
            match args.json {
                true => context.out.json(&finding),
                // Prints each finding at once: an endpoint that does not answer takes a while.
                false => lines(context, &finding).iter().for_each(|line| context.out.line(line)),
            }
        };
        examine(&config, &clock, &mut each).await;
        Ok(())
    })?;
    if !args.json {
        let sum = match (problems, warnings) {
            (0, 0) => context.out.green("no problems found"),
            (0, n) => context.out.yellow(&format!("a run can start; {}", plural(n, "warning"))),
            (p, 0) => context.out.red(&plural(p, "problem")),
            (p, w) => context.out.red(&format!("{}, {}", plural(p, "problem"), plural(w, "warning"))),
        };
        context.out.line(format!("\n{sum}"));
    }
    Ok(if problems == 0 { Exit::Success } else { Exit::Failed })
}

fn lines(context: &Context, finding: &Finding) -> Vec<String> {
    let out = &context.out;
    let mark = match finding.verdict {
        Verdict::Fine => out.green("ok     "),
        Verdict::Warning => out.yellow("warning"),
        Verdict::Problem => out.red("problem"),
    };
    let subject = if finding.subject.is_empty() { String::new() } else { format!("{}: ", finding.subject) };
    let mut lines = vec![format!("{mark}  {:WIDTH$}  {subject}{}", finding.check, finding.text)];
    if !finding.fix.is_empty() {
        lines.push(format!("{:9}{:WIDTH$}  {}", "", "", out.dim(&format!("to do: {}", finding.fix))));
    }
    lines
}
