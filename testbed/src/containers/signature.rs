//! AWS Signature Version 4 for requests without a query, as much of it as the probe of an S3 server needs.

use sha2::{Digest as _, Sha256};

const BLOCK_BYTES: usize = 64;

/// What is signed.
pub(super) struct ToSign<'a> {
    pub(super) method: &'a str,
    /// The path, with nothing in it that would have to be escaped.
    pub(super) path: &'a str,
    pub(super) host: &'a str,
    /// `20261121T130000Z`
    pub(super) timestamp: &'a str,
    pub(super) region: &'a str,
    /// Hexadecimal SHA-256 of the body.
    pub(super) body_sha256: &'a str,
}

impl ToSign<'_> {
    /// The value of the `Authorization` header. Signed are `host`, `x-amz-content-sha256` and `x-amz-date`.
    pub(super) fn authorization(&self, access_key: &str, secret_key: &str) -> String {
        const SIGNED: &str = "host;x-amz-content-sha256;x-amz-date";
        let Self { method, path, host, timestamp, region, body_sha256 } = self;
        let date = timestamp.split('T').next().unwrap_or(timestamp);
        let canonical = format!(
            "{method}\n{path}\n\nhost:{host}\nx-amz-content-sha256:{body_sha256}\nx-amz-date:{timestamp}\n\n{SIGNED}\n\
             {body_sha256}"
        );
        let scope = format!("{date}/{region}/s3/aws4_request");
        let hashed = sha256_hex(canonical.as_bytes());
        let text = format!("AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{hashed}");
        let mut key = hmac(format!("AWS4{secret_key}").as_bytes(), date.as_bytes());
        for part in [*region, "s3", "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        let signature = hex(&hmac(&key, text.as_bytes()));
        format!(
            "AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={SIGNED}, Signature={signature}"
        )
    }
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// HMAC-SHA256, RFC 2104.
pub(super) fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}
