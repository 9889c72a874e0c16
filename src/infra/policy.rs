//! Builds the IAM policy of a role. The policy allows the calls that the role makes, for the configured resources
//! only.
//!
//! The policies are derived from [`OPERATIONS`], the list of all calls. `docweir infra policy` prints a policy with
//! the names of the configured resources. The files in `deploy/policies` hold policies with example names, and a test
//! checks that they are up to date.
//!
//! Listing is allowed for a whole bucket, not only for a prefix. Docweir must be able to tell whether a manifest
//! exists, but S3 answers "not found" only to callers that may list the bucket. Other callers get "denied".

use std::collections::{BTreeMap, BTreeSet};

use docweir_aws::operations::{OPERATIONS, Resource, Role};
use docweir_stages::enrich::EnrichProvider;
use serde_json::{Value, json};

use super::queues::dead_letters;
use crate::config::{Settings, bucket_and_prefix};
use crate::telemetry::CloudWatchMode;

/// Returns the policy of a role. `documents` names sources of documents in addition to the configured buckets, as
/// `s3://BUCKET` or `s3://BUCKET/PREFIX`.
///
/// # Errors
/// Returns a message if an entry of `documents` is not an S3 URI.
pub fn policy(role: Role, settings: &Settings, documents: &[String]) -> Result<Value, String> {
    let places = Places::of(settings, documents)?;
    let mut allowed: BTreeMap<Resource, BTreeSet<&str>> = BTreeMap::new();
    for operation in OPERATIONS.iter().filter(|operation| operation.roles.contains(&role)) {
        allowed.entry(operation.on).or_default().extend(operation.actions);
        if operation.on_records && role == Role::Serve {
            allowed.entry(Resource::Records).or_default().extend(operation.actions);
        }
    }
    let mut statements = Vec::new();
    for (target, actions) in allowed {
        let resources = places.resources(target, role);
        if actions.is_empty() || resources.is_empty() {
            continue;
        }
        let mut statement =
            json!({ "Sid": format!("{target:?}"), "Effect": "Allow", "Action": actions, "Resource": resources });
        if target == Resource::Metrics {
            statement["Condition"] =
                json!({ "StringEquals": { "cloudwatch:namespace": settings.cloudwatch.namespace } });
        }
        statements.push(statement);
    }
    statements.extend(places.key(settings, role));
    Ok(json!({ "Version": "2012-10-17", "Statement": statements }))
}

/// Holds the resources that the configuration names.
struct Places {
    partition: &'static str,
    region: String,
    /// Tables: the name of each table, and true if the table has indexes.
    tables: Vec<(String, bool)>,
    /// Name of the user's table of records, and name of the index of this table, if configured.
    records: Option<(String, String)>,
    /// Buckets and prefixes that Docweir writes to.
    own: Vec<(String, String)>,
    others: Vec<(String, String)>,
    /// Buckets that send events to a queue.
    watched: Vec<String>,
    secrets: Vec<String>,
    queues: Vec<String>,
    /// True if texts are sent to Comprehend.
    texts: bool,
    metrics: bool,
}

impl Places {
    fn of(settings: &Settings, documents: &[String]) -> Result<Self, String> {
        let region = settings.aws.region.as_str();
        let partition = match region.split('-').next() {
            Some("cn") => "aws-cn",
            _ if region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        let (mut own, mut tables) = (Vec::new(), Vec::new());
        if settings.needs_tables() {
            tables = super::tables(settings).into_iter().map(|table| (table.name, !table.indexes.is_empty())).collect();
        }
        if settings.state.objects_in() == "s3" {
            own = vec![place(&settings.buckets.artefacts), place(settings.buckets.vectors())];
            own.dedup();
        }
        let mut others = Vec::new();
        for text in documents {
            let named = text.strip_prefix("s3://").filter(|rest| !rest.is_empty() && !rest.starts_with('/'));
            let Some(named) = named else {
                return Err(format!("--documents `{text}`: use s3://BUCKET or s3://BUCKET/PREFIX"));
            };
            others.push(place(named));
        }
        let queues = &settings.queues;
        let watched = if queues.intake.is_empty() { Vec::new() } else { queues.watched(&settings.buckets.artefacts) };
        let watched: Vec<_> =
            watched.into_iter().map(|(bucket, prefix)| place(&format!("{bucket}/{prefix}"))).collect();
        let is_own = |(bucket, prefix): &(String, String)| {
            own.iter().any(|(own, below): &(String, String)| own == bucket && prefix.starts_with(below.as_str()))
        };
        others.extend(watched.iter().filter(|place| !is_own(place)).cloned());
        let records = &settings.records.table;
        Ok(Self {
            records: (!records.name.is_empty()).then(|| (records.name.clone(), records.index.clone())),
            partition,
            region: if region.is_empty() { "*".into() } else { region.to_owned() },
            tables,
            own,
            others,
            watched: watched.into_iter().map(|(bucket, _)| bucket).collect(),
            queues: queues.named().map(str::to_owned).collect(),
            texts: settings.enrich.options.provider == EnrichProvider::Comprehend,
            secrets: settings.secrets().into_iter().map(|(_, name)| name.secret.clone()).collect(),
            metrics: settings.cloudwatch.mode == CloudWatchMode::Api,
        })
    }

    fn resources(&self, target: Resource, role: Role) -> Vec<String> {
        let all = || self.own.iter().chain(&self.others);
        let resources: BTreeSet<String> = match target {
            Resource::Tables => {
                let table = |name: &String| self.arn("dynamodb", &format!("table/{name}"));
                // The role `infra` queries no index.
                let index = |name: &String, has: bool| (has && role != Role::Infra).then(|| table(name) + "/index/*");
                self.tables.iter().flat_map(|(name, has)| [Some(table(name)), index(name, *has)]).flatten().collect()
            }
            Resource::Records => {
                let table = |name: &str| self.arn("dynamodb", &format!("table/{name}"));
                let named = |(name, index): &(String, String)| [table(name), format!("{}/index/{index}", table(name))];
                self.records.iter().flat_map(named).collect()
            }
            Resource::Buckets => self.own.iter().map(|(bucket, _)| self.bucket(bucket)).collect(),
            Resource::WatchedBuckets => self.watched.iter().map(|bucket| self.bucket(bucket)).collect(),
            Resource::DocumentBuckets => all().map(|(bucket, _)| self.bucket(bucket)).collect(),
            Resource::Objects => self.own.iter().map(|place| self.objects(place)).collect(),
            Resource::Documents => all().map(|place| self.objects(place)).collect(),
            Resource::Secrets => self.secrets.iter().map(|name| self.secret(name)).collect(),
            Resource::Queues => {
                let all = self.queues.iter().flat_map(|name| [name.clone(), dead_letters(name)]);
                all.map(|name| self.arn("sqs", &name)).collect()
            }
            Resource::Texts if self.texts => ["*".to_owned()].into(),
            // Metrics are not resources; the condition restricts the namespace.
            Resource::Metrics if self.metrics => ["*".to_owned()].into(),
            Resource::Texts | Resource::Metrics | Resource::None => BTreeSet::new(),
        };
        resources.into_iter().collect()
    }

    /// Returns an ARN that matches every account id. This is safe, because a policy alone grants nothing in another
    /// account.
    fn arn(&self, service: &str, what: &str) -> String {
        format!("arn:{}:{service}:{}:*:{what}", self.partition, self.region)
    }

    fn bucket(&self, bucket: &str) -> String {
        format!("arn:{}:s3:::{bucket}", self.partition)
    }

    fn objects(&self, (bucket, prefix): &(String, String)) -> String {
        let below = if prefix.is_empty() { "*".to_owned() } else { format!("{prefix}/*") };
        format!("{}/{below}", self.bucket(bucket))
    }

    /// Returns the ARN of a secret. If `name` is not an ARN, the returned ARN ends in six wildcards, because AWS
    /// appends six random characters to the name of a secret.
    fn secret(&self, name: &str) -> String {
        match name.starts_with("arn:") {
            true => name.to_owned(),
            false => self.arn("secretsmanager", &format!("secret:{name}-??????")),
        }
    }

    /// Returns the statement that allows S3 to use the KMS key on behalf of the caller.
    fn key(&self, settings: &Settings, role: Role) -> Option<Value> {
        let key = &settings.s3.kms_key;
        let actions: &[&str] = match role {
            Role::Serve => &["kms:Decrypt", "kms:GenerateDataKey"],
            Role::Reader => &["kms:Decrypt"],
            Role::Infra => return None,
        };
        if key.is_empty() || self.own.is_empty() {
            return None;
        }
        let resource = if key.starts_with("arn:") { key.clone() } else { self.arn("kms", &format!("key/{key}")) };
        Some(json!({ "Sid": "Key", "Effect": "Allow", "Action": actions, "Resource": [resource] }))
    }
}

fn place(text: &str) -> (String, String) {
    let (bucket, prefix) = bucket_and_prefix(text);
    (bucket.to_owned(), prefix.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use docweir_providers::secrets::{SecretName, SecretSetting};

    use super::*;
    use crate::config::Backend;

    const ROLES: [(Role, &str); 3] = [(Role::Serve, "serve"), (Role::Infra, "infra"), (Role::Reader, "reader")];

    /// Returns the settings that the files in `deploy/policies` are generated from.
    fn example() -> Settings {
        let mut settings = Settings::default();
        settings.state.backend = Backend::Aws;
        settings.buckets.artefacts = "docweir-example".into();
        settings.cloudwatch.mode = CloudWatchMode::Api;
        settings.queues.intake = "docweir-intake".into();
        settings.queues.compaction = "docweir-compaction".into();
        settings.records.table.name = "docweir-example-receipts".into();
        settings.enrich.options.provider = EnrichProvider::Comprehend;
        let secret = SecretName { secret: "docweir/openai-api-key".into(), field: None };
        settings.embed.options.openai.api_key = SecretSetting::Kept(secret);
        settings
    }

    #[test]
    fn those_of_deploy_are_as_they_are_made() {
        for (role, name) in ROLES {
            let policy = policy(role, &example(), &["s3://docweir-example-documents".into()]).unwrap();
            let expected = serde_json::to_string_pretty(&policy).unwrap() + "\n";
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("deploy/policies/{name}.json"));
            if std::env::var_os("DOCWEIR_TEST_WRITE").is_some() {
                std::fs::write(&path, &expected).unwrap();
            }
            let there = std::fs::read_to_string(&path).unwrap_or_default();
            let how = "regenerate it with DOCWEIR_TEST_WRITE=1 scripts/test policy";
            assert_eq!(there, expected, "{} is stale: {how}", path.display());
        }
    }

    fn actions(role: Role) -> BTreeSet<String> {
        let policy = policy(role, &example(), &[]).unwrap();
        let statements = policy["Statement"].as_array().unwrap();
        let of = |s: &Value| s["Action"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect();
        statements.iter().flat_map(|s| -> Vec<String> { of(s) }).collect()
    }

    /// Compares two sets of actions: those that a policy allows, and those that the role of the policy calls.
    #[test]
    fn a_policy_allows_what_its_role_calls_and_nothing_else() {
        for (role, _) in ROLES {
            let called = OPERATIONS.iter().filter(|o| o.roles.contains(&role)).flat_map(|o| o.actions);
            let called: BTreeSet<String> = called.map(|action| (*action).to_owned()).collect();
            assert_eq!(actions(role), called, "{role:?}");
        }
        let reads =
            |action: &String| ["Get", "List", "Query", "BatchGet"].iter().any(|r| action.contains(&format!(":{r}")));
        assert!(actions(Role::Reader).iter().all(reads), "{:?}", actions(Role::Reader));
        let touches = |action: &&str| actions(Role::Serve).contains(*action);
        assert_eq!(
            ["s3:CreateBucket", "dynamodb:CreateTable", "dynamodb:DeleteTable"].iter().find(|a| touches(a)),
            None
        );
        assert!(!actions(Role::Infra).iter().any(|a| a.ends_with("Object") || a.ends_with("Item")));
    }

    #[test]
    fn resources_are_those_that_the_configuration_names() {
        let mut settings = example();
        settings.aws.region = "cn-north-1".into();
        settings.buckets.artefacts = "a/team/x".into();
        settings.buckets.vectors = "v".into();
        settings.s3.kms_key = "1234".into();
        settings.cloudwatch.mode = CloudWatchMode::Off;
        settings.queues.intake = "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/events".into();
        settings.queues.watch = vec!["scans/in/".into()];
        settings.enrich.options.provider = EnrichProvider::Local;
        let policy = policy(Role::Serve, &settings, &["s3://papers/2026/".into()]).unwrap();
        let resources = |sid: &str| {
            let statement = policy["Statement"].as_array().unwrap().iter().find(|s| s["Sid"] == sid);
            statement.map(|s| s["Resource"].clone()).unwrap_or_default()
        };
        assert_eq!(resources("Objects"), json!(["arn:aws-cn:s3:::a/team/x/*", "arn:aws-cn:s3:::v/*"]));
        assert_eq!(
            resources("Documents"),
            json!([
                "arn:aws-cn:s3:::a/team/x/*",
                "arn:aws-cn:s3:::papers/2026/*",
                "arn:aws-cn:s3:::scans/in/*",
                "arn:aws-cn:s3:::v/*"
            ])
        );
        assert_eq!(
            resources("DocumentBuckets"),
            json!(["arn:aws-cn:s3:::a", "arn:aws-cn:s3:::papers", "arn:aws-cn:s3:::scans", "arn:aws-cn:s3:::v"])
        );
        assert_eq!(resources("Key"), json!(["arn:aws-cn:kms:cn-north-1:*:key/1234"]));
        let secret = "arn:aws-cn:secretsmanager:cn-north-1:*:secret:docweir/openai-api-key-??????";
        assert_eq!(resources("Secrets"), json!([secret]));
        assert_eq!((resources("Metrics"), resources("Texts")), (Value::Null, Value::Null));
        let queue = |name: &str| format!("arn:aws-cn:sqs:cn-north-1:*:{name}");
        assert_eq!(
            resources("Queues"),
            json!(["docweir-compaction", "docweir-compaction-dead", "events", "events-dead"].map(queue))
        );
        let tables = crate::infra::tables(&settings);
        let indexed = tables.iter().filter(|table| !table.indexes.is_empty()).count();
        assert_eq!(resources("Tables").as_array().unwrap().len(), tables.len() + indexed);
        for wrong in ["papers", "s3://", "s3:///x"] {
            assert!(super::policy(Role::Serve, &settings, &[wrong.into()]).unwrap_err().contains(wrong));
        }
        let receipts = "arn:aws-cn:dynamodb:cn-north-1:*:table/docweir-example-receipts";
        assert_eq!(resources("Records"), json!([receipts, format!("{receipts}/index/embedding-status-index")]));
        let reader = super::policy(Role::Reader, &settings, &[]).unwrap();
        assert!(!reader.to_string().contains("receipts"), "{reader}");
        settings.state.backend = Backend::Folder;
        let policy = super::policy(Role::Serve, &settings, &[]).unwrap();
        assert!(policy.to_string().contains("receipts"), "whatever state lies in: {policy}");
        settings.records.table.name = String::new();
        settings.queues = Default::default();
        let policy = super::policy(Role::Serve, &settings, &[]).unwrap();
        assert_eq!(policy["Statement"].as_array().unwrap().len(), 1, "the secret alone: {policy}");
    }
}
