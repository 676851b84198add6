//! Multipart uploads. Parts wait in memory, also with a directory backend: an unfinished upload does not survive the
//! process, and S3 promises no more of one that nobody completes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CompleteMultipartUploadInput, CompletedPart, CreateMultipartUploadInput,
};
use s3s::{S3Result, s3_error};

use super::checksum::{Sums, multipart_etag, sums_of};
use super::objects::{Headers, Meta};

/// S3's own least size of every part but the last.
const PART_BYTES_MIN: usize = 5 << 20;
const PART_NUMBER_MAX: i32 = 10_000;
/// Uploads that were started and neither completed nor aborted.
const UPLOADS_MAX: usize = 1024;

#[derive(Clone)]
pub(super) struct Part {
    pub(super) body: Bytes,
    pub(super) md5: [u8; 16],
}

struct Upload {
    bucket: String,
    key: String,
    headers: Headers,
    algorithm: Option<ChecksumAlgorithm>,
    /// Whether the object's checksum is that of its whole body instead of its parts' sums.
    full: bool,
    parts: BTreeMap<i32, Part>,
}

/// All uploads in progress.
pub(super) struct Uploads {
    table: Mutex<Table>,
    /// Tells the ids of this process from those of an earlier one.
    epoch: u64,
}

#[derive(Default)]
struct Table {
    started: u64,
    uploads: BTreeMap<String, Upload>,
}

/// An upload ready to become an object.
pub(super) struct Assembled {
    pub(super) meta: Meta,
    pub(super) body: Bytes,
}

impl Uploads {
    pub(super) fn new(epoch: u64) -> Self {
        Self { table: Mutex::default(), epoch }
    }

    pub(super) fn create(&self, input: &CreateMultipartUploadInput, headers: Headers) -> S3Result<String> {
        if let Some(algorithm) = &input.checksum_algorithm {
            Sums::default().want(algorithm)?;
        }
        let mut table = self.lock();
        if table.uploads.len() >= UPLOADS_MAX {
            return Err(s3_error!(SlowDown, "too many unfinished multipart uploads"));
        }
        let crc64 = |algorithm: &ChecksumAlgorithm| algorithm.as_str() == ChecksumAlgorithm::CRC64NVME;
        let full =
            input.checksum_type.as_ref().is_some_and(|kind| kind.as_str() == ChecksumType::FULL_OBJECT)
                || input.checksum_algorithm.as_ref().is_some_and(crc64);
        let id = format!("{:016x}{:08x}", self.epoch, table.started);
        table.started += 1;
        table.uploads.insert(
            id.clone(),
            Upload {
                bucket: input.bucket.clone(),
                key: input.key.clone(),
                headers,
                algorithm: input.checksum_algorithm.clone(),
                full,
                parts: BTreeMap::new(),
            },
        );
        Ok(id)
    }

    /// The checksum algorithm that the upload was started with.
    pub(super) fn algorithm(&self, id: &str, bucket: &str, key: &str) -> S3Result<Option<ChecksumAlgorithm>> {
        Ok(upload(&mut self.lock(), id, bucket, key)?.algorithm.clone())
    }

    pub(super) fn add_part(
        &self,
        id: &str,
        bucket: &str,
        key: &str,
        number: i32,
        part: Part,
    ) -> S3Result<()> {
        if !(1..=PART_NUMBER_MAX).contains(&number) {
            return Err(s3_error!(InvalidArgument, "a part number is 1 to {PART_NUMBER_MAX}"));
        }
        upload(&mut self.lock(), id, bucket, key)?.parts.insert(number, part);
        Ok(())
    }

    pub(super) fn abort(&self, id: &str, bucket: &str, key: &str) -> S3Result<()> {
        let mut table = self.lock();
        upload(&mut table, id, bucket, key)?;
        table.uploads.remove(id);
        Ok(())
    }

    /// Forgets an upload whose object has become visible.
    pub(super) fn finish(&self, id: &str) {
        self.lock().uploads.remove(id);
    }

    /// Checks the client's list of parts, and joins them; the upload stays, so that a failed write can be retried.
    pub(super) fn assemble(
        &self,
        input: &CompleteMultipartUploadInput,
        bytes_max: usize,
        modified_us: u64,
    ) -> S3Result<Assembled> {
        let listed =
            input.multipart_upload.as_ref().and_then(|upload| upload.parts.as_deref()).unwrap_or(&[]);
        if listed.is_empty() {
            return Err(s3_error!(InvalidRequest, "a multipart upload has at least one part"));
        }
        let (parts, headers, algorithm, full) = {
            let mut table = self.lock();
            let upload = upload(&mut table, &input.upload_id, &input.bucket, &input.key)?;
            let parts = choose(&upload.parts, listed)?;
            (parts, upload.headers.clone(), upload.algorithm.clone(), upload.full)
        };
        let bytes: usize = parts.iter().map(|part| part.body.len()).sum();
        if bytes > bytes_max {
            return Err(s3_error!(EntityTooLarge, "the object would exceed {bytes_max} bytes"));
        }
        if input.mpu_object_size.is_some_and(|said| usize::try_from(said) != Ok(bytes)) {
            return Err(s3_error!(InvalidRequest, "the object's size is not the one that you said"));
        }
        let mut body = BytesMut::with_capacity(bytes);
        for part in &parts {
            body.extend_from_slice(&part.body);
        }
        let body = body.freeze();
        let sums = sums_of_parts(&parts, &body, algorithm.as_ref(), full)?;
        // A client may repeat the composite sum with or without its "-N".
        let sent: Sums = sums_of!(input);
        let plain = |sum: &Option<String>| sum.as_ref().map(|s| s.split('-').next().unwrap_or(s).to_owned());
        strip(&sent, plain).check(&strip(&sums, plain))?;
        let md5s: Vec<_> = parts.iter().map(|part| part.md5).collect();
        let meta = Meta {
            bytes: bytes as u64,
            etag: multipart_etag(&md5s),
            modified_us,
            headers,
            composite: !full && !sums.is_empty(),
            sums,
        };
        Ok(Assembled { meta, body })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn upload<'a>(table: &'a mut Table, id: &str, bucket: &str, key: &str) -> S3Result<&'a mut Upload> {
    table
        .uploads
        .get_mut(id)
        .filter(|upload| upload.bucket == bucket && upload.key == key)
        .ok_or_else(|| s3_error!(NoSuchUpload, "the upload does not exist, or was completed or aborted"))
}

/// The listed parts, checked: ascending, present, unchanged, and all but the last large enough.
fn choose(parts: &BTreeMap<i32, Part>, listed: &[CompletedPart]) -> S3Result<Vec<Part>> {
    if !listed.is_sorted_by(|before, after| before.part_number < after.part_number) {
        return Err(s3_error!(InvalidPartOrder, "parts must be listed in ascending order"));
    }
    let mut chosen = Vec::with_capacity(listed.len());
    for (at, wanted) in listed.iter().enumerate() {
        let number = wanted.part_number.unwrap_or(0);
        let part =
            parts.get(&number).ok_or_else(|| s3_error!(InvalidPart, "part {number} was not uploaded"))?;
        if wanted.e_tag.as_ref().is_none_or(|tag| tag.value() != super::checksum::hex(&part.md5)) {
            return Err(s3_error!(InvalidPart, "part {number} has another entity tag"));
        }
        let sent: Sums = sums_of!(wanted);
        sent.check(&sent.same_of(&part.body))?;
        if at + 1 < listed.len() && part.body.len() < PART_BYTES_MIN {
            return Err(s3_error!(EntityTooSmall, "part {number} is smaller than {PART_BYTES_MIN} bytes"));
        }
        chosen.push(part.clone());
    }
    Ok(chosen)
}

fn sums_of_parts(
    parts: &[Part],
    body: &[u8],
    algorithm: Option<&ChecksumAlgorithm>,
    full: bool,
) -> S3Result<Sums> {
    let mut wanted = Sums::default();
    if let Some(algorithm) = algorithm {
        wanted.want(algorithm)?;
    }
    if full {
        return Ok(wanted.same_of(body));
    }
    // The parts may have come without a sum: theirs are computed then.
    let part_sums: Vec<_> = parts.iter().map(|part| wanted.same_of(&part.body)).collect();
    Ok(Sums::composite(&part_sums).unwrap_or_default())
}

fn strip(sums: &Sums, plain: impl Fn(&Option<String>) -> Option<String>) -> Sums {
    Sums {
        crc32: plain(&sums.crc32),
        crc32c: plain(&sums.crc32c),
        crc64nvme: plain(&sums.crc64nvme),
        sha1: plain(&sums.sha1),
        sha256: plain(&sums.sha256),
    }
}
