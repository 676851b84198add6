//! The checksums that a client may send with an object, and those that we send back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Md5, Sha1, Sha256};
use s3s::dto::ChecksumAlgorithm;
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

/// One base64 text per algorithm. What a client sends is what it expects; what we compute is compared with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crc32: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crc32c: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) crc64nvme: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha1: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
}

/// The checksum fields of a request, which every generated input type repeats.
macro_rules! sums_of {
    ($input:expr) => {
        $crate::s3::checksum::Sums {
            crc32: $input.checksum_crc32.clone(),
            crc32c: $input.checksum_crc32c.clone(),
            crc64nvme: $input.checksum_crc64nvme.clone(),
            sha1: $input.checksum_sha1.clone(),
            sha256: $input.checksum_sha256.clone(),
        }
    };
}

/// Fills the checksum fields of an answer.
macro_rules! set_sums {
    ($output:expr, $sums:expr) => {{
        let sums: $crate::s3::checksum::Sums = $sums;
        $output.checksum_crc32 = sums.crc32;
        $output.checksum_crc32c = sums.crc32c;
        $output.checksum_crc64nvme = sums.crc64nvme;
        $output.checksum_sha1 = sums.sha1;
        $output.checksum_sha256 = sums.sha256;
    }};
}

pub(super) use {set_sums, sums_of};

/// What the body was found to be.
pub(super) struct Verified {
    pub(super) md5: [u8; 16],
    pub(super) sums: Sums,
}

impl Sums {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds the checksums that came after the body.
    pub(super) fn add_trailers(&mut self, trailers: &HeaderMap) {
        let text = |name: &str| trailers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        self.crc32 = self.crc32.take().or_else(|| text("x-amz-checksum-crc32"));
        self.crc32c = self.crc32c.take().or_else(|| text("x-amz-checksum-crc32c"));
        self.crc64nvme = self.crc64nvme.take().or_else(|| text("x-amz-checksum-crc64nvme"));
        self.sha1 = self.sha1.take().or_else(|| text("x-amz-checksum-sha1"));
        self.sha256 = self.sha256.take().or_else(|| text("x-amz-checksum-sha256"));
    }

    /// Asks for one algorithm's sum, whose value is not known yet.
    pub(super) fn want(&mut self, algorithm: &ChecksumAlgorithm) -> S3Result<()> {
        let slot = match algorithm.as_str() {
            ChecksumAlgorithm::CRC32 => &mut self.crc32,
            ChecksumAlgorithm::CRC32C => &mut self.crc32c,
            ChecksumAlgorithm::CRC64NVME => &mut self.crc64nvme,
            ChecksumAlgorithm::SHA1 => &mut self.sha1,
            ChecksumAlgorithm::SHA256 => &mut self.sha256,
            other => return Err(s3_error!(InvalidRequest, "unknown checksum algorithm {other}")),
        };
        slot.get_or_insert_default();
        Ok(())
    }

    /// The sums of `body` by every algorithm that is set in `self`.
    pub(super) fn same_of(&self, body: &[u8]) -> Self {
        let mut hasher = ChecksumHasher {
            crc32: self.crc32.as_ref().map(|_| Crc32::new()),
            crc32c: self.crc32c.as_ref().map(|_| Crc32c::new()),
            sha1: self.sha1.as_ref().map(|_| Sha1::new()),
            sha256: self.sha256.as_ref().map(|_| Sha256::new()),
            crc64nvme: self.crc64nvme.as_ref().map(|_| Crc64Nvme::new()),
        };
        hasher.update(body);
        let sums = hasher.finalize();
        sums_of!(sums)
    }

    /// Refuses when a sum that the client sent is not the computed one.
    pub(super) fn check(&self, computed: &Self) -> S3Result<()> {
        let pairs = [
            ("CRC32", &self.crc32, &computed.crc32),
            ("CRC32C", &self.crc32c, &computed.crc32c),
            ("CRC64NVME", &self.crc64nvme, &computed.crc64nvme),
            ("SHA1", &self.sha1, &computed.sha1),
            ("SHA256", &self.sha256, &computed.sha256),
        ];
        for (name, sent, computed) in pairs {
            if let Some(sent) = sent
                && Some(sent) != computed.as_ref()
            {
                return Err(s3_error!(
                    BadDigest,
                    "the {name} that you sent is not that of the body received"
                ));
            }
        }
        Ok(())
    }

    /// The composite sums of a multipart object: the sum of its parts' sums, with their number.
    ///
    /// `None` when a part lacks a sum that another has, or one is not base64.
    pub(super) fn composite(parts: &[Self]) -> Option<Self> {
        fn one<'a>(
            parts: &'a [Sums],
            pick: impl Fn(&'a Sums) -> Option<&'a String>,
            hash: impl Fn(&[u8]) -> String,
        ) -> Option<Option<String>> {
            if parts.iter().all(|part| pick(part).is_none()) {
                return Some(None);
            }
            let mut joined = Vec::new();
            for part in parts {
                joined.extend(BASE64.decode(pick(part)?).ok()?);
            }
            Some(Some(format!("{}-{}", hash(&joined), parts.len())))
        }
        Some(Self {
            crc32: one(parts, |p| p.crc32.as_ref(), |b| BASE64.encode(Crc32::checksum(b)))?,
            crc32c: one(parts, |p| p.crc32c.as_ref(), |b| BASE64.encode(Crc32c::checksum(b)))?,
            // CRC64NVME exists only for whole objects.
            crc64nvme: None,
            sha1: one(parts, |p| p.sha1.as_ref(), |b| BASE64.encode(Sha1::checksum(b)))?,
            sha256: one(parts, |p| p.sha256.as_ref(), |b| BASE64.encode(Sha256::checksum(b)))?,
        })
    }
}

/// Verifies a body against everything that the client said of it.
pub(super) fn verify(
    body: &[u8],
    expected: &Sums,
    algorithm: Option<&ChecksumAlgorithm>,
    content_md5: Option<&str>,
) -> S3Result<Verified> {
    let md5 = Md5::checksum(body);
    if let Some(sent) = content_md5 {
        let sent = BASE64.decode(sent).map_err(|_| s3_error!(InvalidDigest, "Content-MD5 is not base64"))?;
        if sent.len() != md5.len() {
            return Err(s3_error!(InvalidDigest, "Content-MD5 is not 16 bytes long"));
        }
        if sent != md5 {
            return Err(s3_error!(
                BadDigest,
                "the Content-MD5 that you sent is not that of the body received"
            ));
        }
    }
    let mut wanted = expected.clone();
    if let Some(algorithm) = algorithm {
        wanted.want(algorithm)?;
    }
    let sums = wanted.same_of(body);
    expected.check(&sums)?;
    Ok(Verified { md5, sums })
}

/// Lowercase hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A multipart object's entity tag: the MD5 of its parts' MD5s, with their number.
pub(super) fn multipart_etag(parts: &[[u8; 16]]) -> String {
    format!("{}-{}", hex(&Md5::checksum(&parts.concat())), parts.len())
}
