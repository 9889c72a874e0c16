//! Stores a vector index in a bucket and searches it. Conditional writes of S3 swap the manifest.
//!
//! Run it with `S3_BUCKET=my-bucket AWS_REGION=eu-central-1 cargo run -p docweir-aws-backend --example
//! index_in_a_bucket`.
//!
//! `AWS_ENDPOINT_URL` selects a server other than S3. All objects are written under `docweir-example/` in the bucket.

#![allow(clippy::print_stdout, reason = "an example prints its results")]

use std::sync::Arc;

use docweir_aws::s3::S3;
use docweir_aws::{Aws, AwsOptions, S3Options};
use docweir_aws_backend::s3::S3Objects;
use docweir_index::{
    DocumentId, DocumentRows, ModelIdentity, Row, SearchRequest, SystemClock, VectorOptions, VectorStore,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Ok(bucket) = std::env::var("S3_BUCKET") else {
        println!("set S3_BUCKET and AWS_REGION to run this example; AWS_ENDPOINT_URL selects a server other than S3");
        return Ok(());
    };
    let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap_or_default();
    let path_style = !endpoint.is_empty();
    let aws = Aws::find(AwsOptions { endpoint, ..AwsOptions::default() }).await;
    let s3 = S3::new(&aws, &S3Options { path_style, ..S3Options::default() });
    let objects = S3Objects::new(&s3, &bucket, "docweir-example")?;
    // Checks that the server enforces conditions. Otherwise, concurrent commits would be lost.
    objects.probe().await?;

    let store = VectorStore::new(Arc::new(objects), "animals", Arc::new(SystemClock), VectorOptions::default())?;
    let store = Arc::new(store);
    let model = ModelIdentity::new("sea-air-land", "1", 3);
    let id = DocumentId::parse("gulls").ok_or("not an id")?;
    let row = Row::new("gulls-0", "gulls glide over the water", vec![0.3, 0.9, 0.1]);
    let document = DocumentRows::new(id, 1, "https://example.org/gulls", vec![row]);
    let committed = store.writer().commit(vec![document.into()], &model).await?;
    println!("committed version {} after {} attempt(s)", committed.version, committed.attempts);
    for hit in store.view().await?.search(&SearchRequest::new("water", None, 3))? {
        println!("{:.3}  {}", hit.score, hit.text);
    }
    Ok(())
}
