//! `/_standin/…`: what a test says to the stand-in itself. No key is needed.

use hyper::Method;
use serde_json::json;

use crate::faults;
use crate::problem::Problem;
use crate::query;
use crate::reply::Reply;
use crate::world::World;

pub fn answer(world: &World, method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> Result<Reply, Problem> {
    match (method, path) {
        (&Method::GET, "/_standin/books") => {
            let short = query::value(query, "short") == Some("1");
            let books = if short { world.ledger().short_books() } else { world.ledger().books() };
            let text = serde_json::to_vec(&books).map_err(|error| Problem::internal("write its books", error))?;
            Ok(Reply::bytes(text))
        }
        (&Method::GET, "/_standin/faults") => Ok(Reply::json(&json!(world.faults().rules()))),
        (&Method::POST, "/_standin/faults") => {
            let rules = faults::read(body).map_err(|problem| Problem::new(400, problem))?;
            world.faults().set(rules.clone()).map_err(|problem| Problem::new(400, problem))?;
            Ok(Reply::json(&json!(rules)))
        }
        (&Method::DELETE, "/_standin/faults") => {
            world.faults().set(Vec::new()).map_err(|problem| Problem::new(400, problem))?;
            Ok(Reply::json(&json!([])))
        }
        _ => Err(Problem::new(404, "one of GET /_standin/books, GET, POST or DELETE /_standin/faults")),
    }
}
