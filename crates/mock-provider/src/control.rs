//! Serves the paths `/_mock/…`, through which a test controls the mock provider. Requests to these paths need no API
//! key.

use hyper::Method;
use serde_json::json;

use crate::faults;
use crate::problem::Problem;
use crate::query;
use crate::reply::Reply;
use crate::world::World;

pub fn answer(world: &World, method: &Method, path: &str, query: Option<&str>, body: &[u8]) -> Result<Reply, Problem> {
    match (method, path) {
        (&Method::GET, "/_mock/charges") => {
            let short = query::value(query, "short") == Some("1");
            let charges = if short { world.ledger().short_ledger() } else { world.ledger().charges() };
            let text = serde_json::to_vec(&charges).map_err(|error| Problem::internal("write its charges", error))?;
            Ok(Reply::bytes(text))
        }
        (&Method::GET, "/_mock/faults") => Ok(Reply::json(&json!(world.faults().rules()))),
        (&Method::POST, "/_mock/faults") => {
            let rules = faults::read(body).map_err(|problem| Problem::new(400, problem))?;
            world.faults().set(rules.clone()).map_err(|problem| Problem::new(400, problem))?;
            Ok(Reply::json(&json!(rules)))
        }
        (&Method::DELETE, "/_mock/faults") => {
            world.faults().set(Vec::new()).map_err(|problem| Problem::new(400, problem))?;
            Ok(Reply::json(&json!([])))
        }
        _ => Err(Problem::new(404, "unknown path; use GET /_mock/charges, or GET, POST or DELETE /_mock/faults")),
    }
}
