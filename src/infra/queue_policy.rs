//! Extends the policy of a queue by a statement that allows S3 to send messages to the queue.
//!
//! The existing statements are not changed. They are not evaluated either, so the new statement may repeat a
//! permission that another statement grants already.

use serde_json::{Value, json};

/// Returns the statement that allows S3 to send events of a bucket to a queue. The bucket and the queue must belong to
/// the same account.
fn statement(queue: &str, bucket: &str) -> Value {
    let mut parts = queue.split(':');
    let partition = parts.nth(1).unwrap_or("aws");
    let account = parts.nth(2).unwrap_or_default();
    json!({
        "Sid": format!("docweir-{bucket}"),
        "Effect": "Allow",
        "Principal": { "Service": "s3.amazonaws.com" },
        "Action": "sqs:SendMessage",
        "Resource": queue,
        "Condition": {
            "ArnLike": { "aws:SourceArn": format!("arn:{partition}:s3:::{bucket}") },
            "StringEquals": { "aws:SourceAccount": account },
        },
    })
}

/// Returns the statements of a policy. A single statement may appear without a list.
fn statements(policy: &Value) -> Vec<Value> {
    match policy.get("Statement") {
        Some(Value::Array(statements)) => statements.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    }
}

/// Returns the policy of a queue with an additional statement that allows a bucket to send events. Returns `None` if
/// the policy already contains this statement.
pub fn with_leave(policy: Option<&str>, queue: &str, bucket: &str) -> Option<String> {
    let policy: Option<Value> = policy.and_then(|text| serde_json::from_str(text).ok());
    let mut policy = policy.filter(Value::is_object).unwrap_or_else(|| json!({ "Version": "2012-10-17" }));
    let mut all = statements(&policy);
    let ours = statement(queue, bucket);
    if all.contains(&ours) {
        return None;
    }
    all.retain(|other| other.get("Sid") != ours.get("Sid"));
    all.push(ours);
    policy["Statement"] = Value::Array(all);
    Some(policy.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: &str = "arn:aws:sqs:eu-central-1:123456789012:intake";

    #[test]
    fn leave_is_given_once_and_takes_nothing_from_others() {
        let first = with_leave(None, QUEUE, "papers").unwrap();
        assert_eq!(with_leave(Some(&first), QUEUE, "papers"), None);
        let value: Value = serde_json::from_str(&first).unwrap();
        let condition = &value["Statement"][0]["Condition"];
        assert_eq!(condition["ArnLike"]["aws:SourceArn"], "arn:aws:s3:::papers");
        assert_eq!(condition["StringEquals"]["aws:SourceAccount"], "123456789012");
        let both = with_leave(Some(&first), QUEUE, "letters").unwrap();
        assert_eq!(with_leave(Some(&both), QUEUE, "papers"), None);
        let theirs = r#"{"Version": "2008-10-17", "Id": "x", "Statement": {"Sid": "theirs", "Effect": "Deny"}}"#;
        let beside: Value = serde_json::from_str(&with_leave(Some(theirs), QUEUE, "papers").unwrap()).unwrap();
        assert_eq!((&beside["Version"], &beside["Id"]), (&"2008-10-17".into(), &"x".into()));
        assert_eq!(beside["Statement"][0]["Sid"], "theirs");
        assert_eq!(beside["Statement"].as_array().unwrap().len(), 2);
        // An outdated statement of ours is replaced.
        let old = first.replace("sqs:SendMessage", "sqs:*");
        let mended: Value = serde_json::from_str(&with_leave(Some(&old), QUEUE, "papers").unwrap()).unwrap();
        assert_eq!(mended, value);
    }
}
