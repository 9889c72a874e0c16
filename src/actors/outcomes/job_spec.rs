//! Describes a document's job to the pool that it is submitted to.

use std::sync::Arc;

use crate::messages::job::{Input, Job};
use crate::supervisors::{JobSpec, Lane};

/// Returns the description of a job: id, tenant, memory and lane. Removals are urgent, and so is what a user asked for.
pub fn spec(job: Job) -> JobSpec<Job> {
    JobSpec {
        id: job.claim.key.id.to_string(),
        tenant: job.claim.tenant.as_str().into(),
        weight: job.claim.weight,
        bytes: job.working_bytes(),
        lane: if job.claim.urgent || matches!(job.input, Input::Removal) { Lane::Urgent } else { Lane::Normal },
        failed_attempts: job.claim.attempts,
        payload: Arc::new(job),
    }
}
