//! Tests AWS resources as people have them: dropped indexes, foreign and versioned buckets, buckets of another region, and
//! profiles that do not exist.

use docweir_testkit::proxy::{Act, Proxy};
use docweir_testkit::servers::shared_ministack;
use serde_json::Value;

use crate::account::{Account, dynoxide, ministack, seaweedfs};
use crate::aws::INGEST;
use crate::kit::Ran;

/// Drops an index of the control table. A run names the index, and `infra apply` restores it.
fn a_dropped_index_is_named_and_restored(account: &Account) {
    account.place.generate(2);
    account.run("one", &INGEST).code(0);
    let table = format!("{}-control", account.name);
    let drop = r#"[{"Delete": {"IndexName": "status-updated-index"}}]"#;
    account.aws(
        account.dynamo,
        &["dynamodb", "update-table", "--table-name", &table, "--global-secondary-index-updates", drop],
    );
    let ran = account.run("one", &INGEST);
    assert_ne!(ran.status.code(), Some(0), "{}", ran.out);
    assert!(ran.err.contains("index") && ran.err.contains("docweir infra apply"), "{}", ran.err);
    let check = account.run("one", &["infra", "check"]);
    assert!(check.code(1).out.contains("create the index status-updated-index"), "{}", check.out);
    account.run("one", &["infra", "apply"]).code(0);
    account.run("one", &["infra", "check"]).code(0);
    account.run("one", &INGEST).code(0);
}

#[test]
fn a_dropped_index_is_named_and_restored_on_dynoxide() {
    let Some(account) = Account::new(seaweedfs(), dynoxide(), false) else { return };
    a_dropped_index_is_named_and_restored(&account);
}

#[test]
fn a_dropped_index_is_named_and_restored_on_ministack() {
    let Some(account) = Account::new(seaweedfs(), ministack(), false) else { return };
    a_dropped_index_is_named_and_restored(&account);
}

/// A bucket that somebody else has set up differs in a way that a person must decide about. `infra apply` names the rules
/// that it has not set because of this.
#[test]
fn rules_that_are_not_set_in_a_foreign_bucket_are_named() {
    let Some((s3, dynamo)) = ministack().zip(dynoxide()) else { return };
    let account = Account::plain(s3, dynamo, true);
    account.aws(account.s3, &["s3", "mb", &format!("s3://{}", account.name)]);
    let applied = account.run("one", &["infra", "apply"]);
    let told = &applied.code(1).out;
    assert!(told.contains("can be made public") && told.contains("rules not set"), "{told}");
    assert!(told.contains("docweir-archive-extracted") && told.contains("docweir-abandoned-uploads"), "{told}");
}

/// Reads every version of every object in the bucket, and returns the keys of those that contain a text.
fn versions_with(account: &Account, text: &str) -> Vec<String> {
    let listed = account.aws(account.s3, &["s3api", "list-object-versions", "--bucket", &account.name]);
    let listed: Value = serde_json::from_str(&listed).unwrap_or_default();
    let versions = listed["Versions"].as_array().cloned().unwrap_or_default();
    let contains = |version: &Value| {
        let (key, id) = (version["Key"].as_str().unwrap(), version["VersionId"].as_str().unwrap());
        let to = account.place.path().join("version");
        let to = to.to_str().unwrap();
        let get = ["s3api", "get-object", "--bucket", &account.name, "--key", key, "--version-id", id, to];
        account.aws(account.s3, &get);
        let body = std::fs::read(to).unwrap();
        body.windows(text.len()).any(|part| part == text.as_bytes()).then(|| key.to_owned())
    };
    versions.iter().filter_map(contains).collect()
}

/// A versioned bucket keeps the content of deleted objects. `erase` deletes these versions too, and only those of the erased
/// document and of shared files.
fn a_versioned_bucket_keeps_nothing_of_an_erased_document(account: &Account) {
    let on = "Status=Enabled";
    account.aws(
        account.s3,
        &["s3api", "put-bucket-versioning", "--bucket", &account.name, "--versioning-configuration", on],
    );
    let check = account.run("one", &["infra", "check"]);
    assert!(check.code(0).out.contains("the bucket is versioned"), "{}", check.out);
    let doctor = account.run("one", &["doctor"]);
    assert!(doctor.out.contains("the bucket is versioned"), "{}", doctor.out);
    account.place.generate(2);
    account.run("one", &INGEST).code(0);
    let [erased, kept] = [0, 1].map(|seed| docweir_testkit::marker(seed, 1));
    assert!(!versions_with(account, &erased).is_empty(), "the test finds the text in artefacts");
    account.run("one", &["erase", "docs/0000.pdf"]).code(0);
    assert_eq!(versions_with(account, &erased), Vec::<String>::new());
    assert!(!versions_with(account, &kept).is_empty());
    let marker = account.run("two", &["search", &kept, "--mode", "full-text"]);
    marker.code(0);
    account.run("two", &["store", "verify"]).code(0);
}

#[test]
fn a_versioned_bucket_of_seaweedfs_keeps_nothing_of_an_erased_document() {
    let Some(account) = Account::new(seaweedfs(), dynoxide(), false) else { return };
    a_versioned_bucket_keeps_nothing_of_an_erased_document(&account);
}

#[test]
fn a_versioned_bucket_of_ministack_keeps_nothing_of_an_erased_document() {
    let Some(account) = Account::new(ministack(), dynoxide(), true) else { return };
    a_versioned_bucket_keeps_nothing_of_an_erased_document(&account);
}

/// The source bucket is in another region than the requests go to.
#[test]
fn a_bucket_of_another_region_names_its_region() {
    let Some(server) = shared_ministack() else { return };
    let Some(mut account) = Account::new(Some(server), dynoxide(), true) else { return };
    let proxy = Proxy::start(server.endpoint().trim_start_matches("http://")).unwrap();
    account.more.push(("DOCWEIR__S3__ENDPOINT", format!("http://{}", proxy.address())));
    proxy.set(|head| match head.lines().next().unwrap_or_default().contains("/elsewhere") {
        true => Act::Reply(
            "HTTP/1.1 301 Moved Permanently\r\nx-amz-bucket-region: eu-west-1\r\nConnection: close\r\n\
             Content-Length: 0\r\n\r\n"
                .into(),
        ),
        false => Act::Pass,
    });
    let ran = account.run("one", &["ingest", "s3://elsewhere/in/", "--progress", "none"]);
    assert_ne!(ran.status.code(), Some(0));
    assert!(ran.err.contains("region eu-west-1") && ran.err.contains("aws.region"), "{}", ran.err);
}

#[test]
fn an_absent_profile_is_named() {
    let Some(account) = Account::new(ministack(), dynoxide(), true) else { return };
    let mut command = account.command("one", &INGEST);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_PROFILE", "absent-profile");
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", account.place.path());
    let ran = Ran::of(command.output().unwrap());
    assert_ne!(ran.status.code(), Some(0));
    assert!(ran.err.contains("absent-profile"), "{}", ran.err);
}

/// A profile with SSO needs a login first. The error names the login, and not a missing feature.
#[test]
fn a_profile_with_sso_is_supported() {
    let Some(account) = Account::new(ministack(), dynoxide(), true) else { return };
    let config = account.place.path().join("aws-config");
    let text = "[profile sso]\nsso_start_url = https://127.0.0.1:9/start\nsso_region = eu-central-1\n\
                sso_account_id = 123456789012\nsso_role_name = reader\nregion = eu-central-1\n";
    std::fs::write(&config, text).unwrap();
    let mut command = account.command("one", &INGEST);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_PROFILE", "sso");
    command.env("AWS_CONFIG_FILE", &config).env("AWS_EC2_METADATA_DISABLED", "true").env("HOME", account.place.path());
    let ran = Ran::of(command.output().unwrap());
    assert_ne!(ran.status.code(), Some(0));
    assert!(ran.err.to_lowercase().contains("sso") && !ran.err.contains("feature"), "{}", ran.err);
}
