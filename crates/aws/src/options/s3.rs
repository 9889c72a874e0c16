//! Defines the options of S3.

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

/// Configures the access to S3, or to a server that implements the S3 protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct S3Options {
    /// Endpoint of the S3 server. Empty means `aws.endpoint`, or S3 itself if `aws.endpoint` is empty too.
    pub endpoint: String,
    /// If true, the bucket name is in the path of each URL, as in `host/bucket/key`. If false, the bucket name is part
    /// of the host name. Most servers other than S3 need `true`.
    pub path_style: bool,
    /// Server-side encryption of written objects: `"AES256"`, `"aws:kms"`, or empty for the bucket's default
    /// encryption.
    pub encryption: String,
    /// ARN or id of the KMS key that `encryption = "aws:kms"` uses. Empty means the default key of the account.
    pub kms_key: String,
    /// If true, this account pays for reading from buckets whose owner has set "Requester Pays". Without it, S3 denies
    /// access to these buckets.
    pub requester_pays: bool,
    /// If true, each write sends a CRC-32 checksum, and each read of a whole object is verified against the checksum
    /// that the server returns. Set it to `false` only for servers that reject checksums.
    pub checksums: bool,
    /// Maximum size, in bytes, of an object that is read or written in memory.
    pub max_object_bytes: u64,
    /// Size of each part of a large object, in bytes. An object smaller than one part is written in one request. An
    /// object has at most 10,000 parts, so this value also limits the object size. The default of 16777216 (16 MiB)
    /// allows objects of up to 156 GiB.
    pub part_bytes: u64,
    /// Number of parts that are transferred in parallel for one large object. An upload needs memory for this number of
    /// parts plus two.
    #[serde(skip)]
    pub parallel_parts: usize,
    /// Maximum number of small objects that are written in parallel.
    pub parallel_puts: usize,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            path_style: false,
            encryption: String::new(),
            kms_key: String::new(),
            requester_pays: false,
            checksums: true,
            max_object_bytes: 2 << 30,
            part_bytes: 16 << 20,
            parallel_parts: 4,
            parallel_puts: 16,
        }
    }
}

impl S3Options {
    /// Returns each option that is out of range, with a message that says what is allowed.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: u64, low, high| found.extend(out_of_range(field, value, low, high));
        // S3 accepts at most 5 GiB in one put, and at least 5 MiB in each part except the last.
        range("max_object_bytes", self.max_object_bytes, 1 << 20, 5 << 30);
        range("part_bytes", self.part_bytes, 5 << 20, 1 << 30);
        range("parallel_puts", self.parallel_puts as u64, 1, 256);
        if !self.endpoint.is_empty() && !self.endpoint.starts_with("http") {
            found.push(("endpoint", "must be empty or begin with http:// or https://".into()));
        }
        if !["", "AES256", "aws:kms"].contains(&self.encryption.as_str()) {
            found.push(("encryption", format!("must be empty, `AES256` or `aws:kms`, not `{}`", self.encryption)));
        }
        if !self.kms_key.is_empty() && self.encryption != "aws:kms" {
            found.push(("kms_key", "can be set only with `encryption = \"aws:kms\"`".into()));
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
            parallel_puts: 1000,
            max_object_bytes: 0,
            ..S3Options::default()
        };
        let fields: Vec<_> = wrong.problems().into_iter().map(|(field, _)| field).collect();
        let all = ["max_object_bytes", "part_bytes", "parallel_puts", "endpoint", "encryption", "kms_key"];
        assert_eq!(fields, all);
    }
}
