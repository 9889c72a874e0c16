//! What can be configured about S3.

use serde::{Deserialize, Serialize};

/// How objects are written to and read from S3, or a server that speaks its protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Options {
    /// Address of the server; empty for that of all services (`aws.endpoint`), or else S3 itself.
    pub endpoint: String,
    /// Name the bucket in the path (`host/bucket/key`) and not in the host: what most other servers than S3 need.
    pub path_style: bool,
    /// How what is written is encrypted: `AES256`, `aws:kms`, or empty for the bucket's own default.
    pub encryption: String,
    /// The key of `aws:kms`: its ARN or id; empty for the account's own.
    pub kms_key: String,
    /// Send a CRC-32 with what is written, and check what is read. Off for servers that refuse it.
    pub checksums: bool,
    /// Largest object, in bytes, that is read or written whole, in memory. Default 2147483648 (2 GiB).
    pub max_object_bytes: u64,
    /// Size, in bytes, of the parts that a large object is written in; one of less is written at once. At most 10,000
    /// parts make an object, so the largest one is 10,000 times this. Default 16777216 (16 MiB), which is 156 GiB.
    pub part_bytes: u64,
    /// Parts of one large object that are under way at once. Writing one takes memory for two more than this. Default 4.
    pub parallel_parts: usize,
    /// Small objects that are written at once. Default 16.
    pub parallel_puts: usize,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            path_style: false,
            encryption: String::new(),
            kms_key: String::new(),
            checksums: true,
            max_object_bytes: 2 << 30,
            part_bytes: 16 << 20,
            parallel_parts: 4,
            parallel_puts: 16,
        }
    }
}

impl S3Options {
    /// Values that are out of range: the field and what would be right.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must lie between {low} and {high}, not {value}")));
            }
        };
        // A put takes 5 GiB at most; a part that is not the last, 5 MiB at least.
        range("max_object_bytes", self.max_object_bytes, 1 << 20, 5 << 30);
        range("part_bytes", self.part_bytes, 5 << 20, 1 << 30);
        range("parallel_parts", self.parallel_parts as u64, 1, 64);
        range("parallel_puts", self.parallel_puts as u64, 1, 256);
        if !self.endpoint.is_empty() && !self.endpoint.starts_with("http") {
            found.push(("endpoint", "must be empty or begin with http:// or https://".into()));
        }
        if !["", "AES256", "aws:kms"].contains(&self.encryption.as_str()) {
            found.push(("encryption", format!("must be empty, `AES256` or `aws:kms`, not `{}`", self.encryption)));
        }
        if !self.kms_key.is_empty() && self.encryption != "aws:kms" {
            found.push(("kms_key", "needs `encryption = \"aws:kms\"`".into()));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_named() {
        assert_eq!(S3Options::default().problems(), []);
        let wrong = S3Options {
            endpoint: "localhost:1".into(),
            encryption: "rot13".into(),
            kms_key: "k".into(),
            part_bytes: 1,
            parallel_parts: 0,
            parallel_puts: 1000,
            max_object_bytes: 0,
            ..S3Options::default()
        };
        let fields: Vec<_> = wrong.problems().into_iter().map(|(field, _)| field).collect();
        let all =
            ["max_object_bytes", "part_bytes", "parallel_parts", "parallel_puts", "endpoint", "encryption", "kms_key"];
        assert_eq!(fields, all);
    }
}
