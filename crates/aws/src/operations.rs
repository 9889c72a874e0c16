//! Lists every AWS operation that Docweir calls, and the IAM actions that each operation needs.
//!
//! The policies in `deploy/policies` are generated from this list alone. A test fails if the code makes a call that is
//! not listed, or if the code never makes a listed call.
//!
//! To add a call, insert it into [`OPERATIONS`], which is sorted by service and name.

/// Lists the roles of processes that call AWS. Each role has its own IAM policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Role of processes that write, such as `ingest`, `serve` and `compact`.
    Serve,
    /// Role of the process that creates and configures resources, `infra`.
    Infra,
    /// Role of processes that only read, such as `search`, `status` and `audit`.
    Reader,
}

/// Lists the kinds of resources that operations act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Docweir's own DynamoDB tables and their indexes.
    Tables,
    /// Record table and its index. Records are imported from this table, which belongs to the user.
    Records,
    /// Docweir's own S3 buckets.
    Buckets,
    /// Buckets whose events are sent to a queue.
    WatchedBuckets,
    /// Objects in Docweir's own buckets.
    Objects,
    /// Docweir's own buckets, and other buckets that documents are read from.
    DocumentBuckets,
    /// Objects in Docweir's own buckets, and in other buckets that documents are read from.
    Documents,
    Secrets,
    /// The configured queues and their dead-letter queues.
    Queues,
    /// Texts that a request contains. Services that analyse texts, such as Comprehend, have no resource that a policy
    /// could name.
    Texts,
    /// Metrics in Docweir's CloudWatch namespace.
    Metrics,
    /// Placeholder for operations that act on no resource and need no permission.
    None,
}

/// Describes an operation of an AWS service.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    pub service: &'static str,
    pub name: &'static str,
    /// IAM actions that the operation needs. An operation may need several actions, and an action may have a name
    /// that differs from the operation's.
    pub actions: &'static [&'static str],
    pub on: Resource,
    pub roles: &'static [Role],
    /// If true, processes with [`Role::Serve`] also call the operation on the record table.
    pub on_records: bool,
}

impl Operation {
    const fn new(
        service: &'static str,
        name: &'static str,
        actions: &'static [&'static str],
        on: Resource,
        roles: &'static [Role],
    ) -> Self {
        Self { service, name, actions, on, roles, on_records: false }
    }

    const fn and_on_records(self) -> Self {
        Self { on_records: true, ..self }
    }
}

const WORK: &[Role] = &[Role::Serve];
const SETUP: &[Role] = &[Role::Infra];
/// Roles of operations that [`Role::Infra`] needs for setup. [`Role::Serve`] needs these operations too, for example
/// for `docweir doctor`.
const CHECK: &[Role] = &[Role::Serve, Role::Infra];
const LOOK: &[Role] = &[Role::Serve, Role::Reader];
const ALL: &[Role] = &[Role::Serve, Role::Infra, Role::Reader];
/// Empty list of roles, for operations that only tests call.
const NO_ONE: &[Role] = &[];

/// All AWS operations that Docweir calls, sorted by service and name.
pub const OPERATIONS: &[Operation] = &[
    Operation::new("cloudwatch", "PutMetricData", &["cloudwatch:PutMetricData"], Resource::Metrics, WORK),
    Operation::new(
        "comprehend",
        "BatchDetectDominantLanguage",
        &["comprehend:BatchDetectDominantLanguage"],
        Resource::Texts,
        WORK,
    ),
    Operation::new("comprehend", "BatchDetectEntities", &["comprehend:BatchDetectEntities"], Resource::Texts, WORK),
    Operation::new("comprehend", "BatchDetectKeyPhrases", &["comprehend:BatchDetectKeyPhrases"], Resource::Texts, WORK),
    Operation::new("comprehend", "BatchDetectSentiment", &["comprehend:BatchDetectSentiment"], Resource::Texts, WORK),
    Operation::new("comprehend", "DetectPiiEntities", &["comprehend:DetectPiiEntities"], Resource::Texts, WORK),
    Operation::new("dynamodb", "BatchGetItem", &["dynamodb:BatchGetItem"], Resource::Tables, LOOK).and_on_records(),
    Operation::new("dynamodb", "CreateTable", &["dynamodb:CreateTable"], Resource::Tables, SETUP),
    Operation::new("dynamodb", "DeleteItem", &["dynamodb:DeleteItem"], Resource::Tables, WORK),
    Operation::new("dynamodb", "DeleteTable", &["dynamodb:DeleteTable"], Resource::Tables, NO_ONE),
    Operation::new("dynamodb", "DescribeTable", &["dynamodb:DescribeTable"], Resource::Tables, CHECK).and_on_records(),
    Operation::new("dynamodb", "DescribeTimeToLive", &["dynamodb:DescribeTimeToLive"], Resource::Tables, CHECK),
    Operation::new("dynamodb", "GetItem", &["dynamodb:GetItem"], Resource::Tables, LOOK),
    Operation::new("dynamodb", "PutItem", &["dynamodb:PutItem"], Resource::Tables, WORK),
    Operation::new("dynamodb", "Query", &["dynamodb:Query"], Resource::Tables, LOOK).and_on_records(),
    // A transaction contains puts, updates, deletions and condition checks.
    Operation::new(
        "dynamodb",
        "TransactWriteItems",
        &["dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:ConditionCheckItem"],
        Resource::Tables,
        WORK,
    ),
    Operation::new("dynamodb", "UpdateItem", &["dynamodb:UpdateItem"], Resource::Tables, WORK).and_on_records(),
    Operation::new("dynamodb", "UpdateTable", &["dynamodb:UpdateTable"], Resource::Tables, SETUP),
    Operation::new("dynamodb", "UpdateTimeToLive", &["dynamodb:UpdateTimeToLive"], Resource::Tables, SETUP),
    Operation::new("s3", "AbortMultipartUpload", &["s3:AbortMultipartUpload"], Resource::Objects, WORK),
    Operation::new("s3", "CompleteMultipartUpload", &["s3:PutObject"], Resource::Objects, WORK),
    Operation::new("s3", "CreateBucket", &["s3:CreateBucket"], Resource::Buckets, SETUP),
    Operation::new("s3", "CreateMultipartUpload", &["s3:PutObject"], Resource::Objects, WORK),
    Operation::new("s3", "DeleteObject", &["s3:DeleteObject"], Resource::Objects, WORK),
    // In versioned buckets, `erase` deletes versions too.
    Operation::new("s3", "DeleteObjects", &["s3:DeleteObject", "s3:DeleteObjectVersion"], Resource::Objects, WORK),
    Operation::new("s3", "GetBucketEncryption", &["s3:GetEncryptionConfiguration"], Resource::Buckets, SETUP),
    Operation::new(
        "s3",
        "GetBucketLifecycleConfiguration",
        &["s3:GetLifecycleConfiguration"],
        Resource::Buckets,
        SETUP,
    ),
    Operation::new(
        "s3",
        "GetBucketNotificationConfiguration",
        &["s3:GetBucketNotification"],
        Resource::WatchedBuckets,
        SETUP,
    ),
    Operation::new("s3", "GetBucketVersioning", &["s3:GetBucketVersioning"], Resource::Buckets, CHECK),
    Operation::new("s3", "GetObject", &["s3:GetObject"], Resource::Documents, LOOK),
    Operation::new("s3", "GetPublicAccessBlock", &["s3:GetBucketPublicAccessBlock"], Resource::Buckets, SETUP),
    Operation::new("s3", "HeadBucket", &["s3:ListBucket"], Resource::Buckets, CHECK),
    Operation::new("s3", "HeadObject", &["s3:GetObject"], Resource::Documents, LOOK),
    Operation::new("s3", "ListMultipartUploads", &["s3:ListBucketMultipartUploads"], Resource::Buckets, NO_ONE),
    Operation::new("s3", "ListObjectVersions", &["s3:ListBucketVersions"], Resource::Buckets, WORK),
    // Readers need this permission as well: S3 reports that an object is missing only to callers that may list the
    // bucket.
    Operation::new("s3", "ListObjectsV2", &["s3:ListBucket"], Resource::DocumentBuckets, LOOK),
    Operation::new("s3", "PutBucketEncryption", &["s3:PutEncryptionConfiguration"], Resource::Buckets, SETUP),
    Operation::new(
        "s3",
        "PutBucketLifecycleConfiguration",
        &["s3:PutLifecycleConfiguration"],
        Resource::Buckets,
        SETUP,
    ),
    Operation::new(
        "s3",
        "PutBucketNotificationConfiguration",
        &["s3:PutBucketNotification"],
        Resource::WatchedBuckets,
        SETUP,
    ),
    Operation::new("s3", "PutObject", &["s3:PutObject"], Resource::Objects, WORK),
    Operation::new("s3", "PutPublicAccessBlock", &["s3:PutBucketPublicAccessBlock"], Resource::Buckets, SETUP),
    Operation::new("s3", "UploadPart", &["s3:PutObject"], Resource::Objects, WORK),
    // A search also calls the embedding endpoint, so readers need its secret.
    Operation::new("secretsmanager", "GetSecretValue", &["secretsmanager:GetSecretValue"], Resource::Secrets, LOOK),
    Operation::new("sqs", "ChangeMessageVisibility", &["sqs:ChangeMessageVisibility"], Resource::Queues, WORK),
    Operation::new("sqs", "CreateQueue", &["sqs:CreateQueue"], Resource::Queues, SETUP),
    Operation::new("sqs", "DeleteMessageBatch", &["sqs:DeleteMessage"], Resource::Queues, WORK),
    Operation::new("sqs", "GetQueueAttributes", &["sqs:GetQueueAttributes"], Resource::Queues, ALL),
    Operation::new("sqs", "GetQueueUrl", &["sqs:GetQueueUrl"], Resource::Queues, ALL),
    Operation::new("sqs", "ReceiveMessage", &["sqs:ReceiveMessage"], Resource::Queues, WORK),
    Operation::new("sqs", "SendMessage", &["sqs:SendMessage"], Resource::Queues, WORK),
    Operation::new("sqs", "SetQueueAttributes", &["sqs:SetQueueAttributes"], Resource::Queues, SETUP),
    Operation::new("sts", "GetCallerIdentity", &[], Resource::None, ALL),
];

/// Returns whether the operation is in [`OPERATIONS`].
pub fn known(service: &str, operation: &str) -> bool {
    OPERATIONS.iter().any(|o| o.service == service && o.name == operation)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Searches the sources of this crate for uses of the functions that count calls. Returns the names of all
    /// operations that are passed to these functions.
    fn called() -> BTreeSet<String> {
        let word = |text: &str| text.split('"').next().unwrap_or_default().to_owned();
        let name = |word: &String| {
            word.starts_with(|c: char| c.is_ascii_uppercase()) && word.chars().all(|c| c.is_ascii_alphanumeric())
        };
        let mut found = BTreeSet::new();
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                if path.ends_with("operations.rs") {
                    continue;
                }
                let code = std::fs::read_to_string(&path).unwrap();
                // `done("PutObject", …)`, `told("GetItem", …)`, `count("sqs", "SendMessage", …)`, `told("sts",
                // "Get…", …)`.
                for call in ["done(\"", "told(\"", "count(\"", "answered(\""] {
                    for rest in code.split(call).skip(1) {
                        let first = word(rest);
                        let second = rest.split_once("\", \"").map(|(_, rest)| word(rest)).filter(|_| !name(&first));
                        found.extend(second.into_iter().chain([first]).filter(name));
                    }
                }
            }
        }
        found
    }

    #[test]
    fn every_call_is_in_the_list_and_the_list_has_no_other() {
        let listed: BTreeSet<String> = OPERATIONS.iter().map(|o| o.name.to_owned()).collect();
        assert_eq!(called(), listed, "left: called in crates/aws/src, right: in OPERATIONS");
        assert_eq!(listed.len(), OPERATIONS.len(), "an operation is listed twice");
    }

    /// Checks that Docweir only reads and updates items of the record table, which belongs to another system.
    #[test]
    fn items_of_the_table_of_records_are_read_and_updated_and_nothing_else() {
        let names: Vec<&str> = OPERATIONS.iter().filter(|o| o.on_records).map(|o| o.name).collect();
        assert_eq!(names, ["BatchGetItem", "DescribeTable", "Query", "UpdateItem"]);
    }

    #[test]
    fn the_list_is_in_order_and_says_what_to_allow() {
        assert!(OPERATIONS.is_sorted_by_key(|o| (o.service, o.name)));
        for operation in OPERATIONS {
            let own = operation.actions.iter().all(|a| a.starts_with(&format!("{}:", operation.service)));
            assert!(own, "{operation:?}");
            assert_eq!(operation.actions.is_empty(), operation.on == Resource::None, "{operation:?}");
        }
    }
}
