//! The S3 operations. What is not here is answered `NotImplemented` by `s3s`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use mipro_telemetry::clock;
use s3s::dto::*;
use s3s::stream::ByteStream;
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, TrailingHeaders, s3_error};

use super::checksum::{self, Sums, Verified, hex, set_sums, sums_of};
use super::listing::{Mark, Query, url_encode};
use super::multipart::{Part, Uploads};
use super::objects::{Condition, Headers, Meta, Object, Objects, StoreError};

/// S3's own most items of a listing's page, and keys of a bulk delete.
const ITEMS_MAX: usize = 1000;

/// Bodies above this are hashed on a thread that may block.
const HASH_INLINE_BYTES_MAX: usize = 256 << 10;

/// The server's state behind the operations.
pub(super) struct Api {
    objects: Arc<Objects>,
    uploads: Uploads,
    object_bytes_max: usize,
}

impl Api {
    pub(super) fn new(objects: Arc<Objects>, object_bytes_max: usize) -> Self {
        Self { objects, uploads: Uploads::new(clock::unix_us()), object_bytes_max }
    }

    /// Runs a call of the object table where it may block.
    async fn store<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Objects) -> Result<T, StoreError> + Send + 'static,
    ) -> S3Result<T> {
        if !self.objects.blocks() {
            return Ok(call(&self.objects)?);
        }
        let objects = Arc::clone(&self.objects);
        // A blocking task runs to its end even if the client goes away, so index and files never part.
        let outcome = tokio::task::spawn_blocking(move || call(&objects)).await;
        Ok(outcome.map_err(S3Error::internal_error)??)
    }

    /// Reads a body and verifies it, before anything of it is kept.
    async fn receive(
        &self,
        body: Option<StreamingBlob>,
        mut expected: Sums,
        trailers: Option<TrailingHeaders>,
        algorithm: Option<ChecksumAlgorithm>,
        content_md5: Option<String>,
    ) -> S3Result<(Bytes, Verified)> {
        let body = match body {
            Some(body) => collect(body, self.object_bytes_max).await?,
            None => Bytes::new(),
        };
        if let Some(trailers) = trailers {
            trailers.read(|trailers| expected.add_trailers(trailers));
        }
        let bytes = body.clone();
        let verify = move || checksum::verify(&bytes, &expected, algorithm.as_ref(), content_md5.as_deref());
        let verified = if body.len() <= HASH_INLINE_BYTES_MAX {
            verify()?
        } else {
            tokio::task::spawn_blocking(verify).await.map_err(S3Error::internal_error)??
        };
        Ok((body, verified))
    }
}

async fn collect(mut body: StreamingBlob, bytes_max: usize) -> S3Result<Bytes> {
    let too_large = || s3_error!(EntityTooLarge, "a body may be {bytes_max} bytes long at most");
    if body.remaining_length().exact().is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_large());
    }
    let mut collected = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|source| {
            s3_error!(IncompleteBody, "the body broke off or did not match its hash: {source}")
        })?;
        if collected.len() + chunk.len() > bytes_max {
            return Err(too_large());
        }
        collected.extend_from_slice(&chunk);
    }
    Ok(collected.freeze())
}

/// The headers that are stored with an object; both kinds of upload carry the same ones.
macro_rules! headers_of {
    ($input:expr) => {
        Headers {
            content_type: $input.content_type.clone(),
            content_encoding: $input.content_encoding.clone(),
            content_language: $input.content_language.clone(),
            content_disposition: $input.content_disposition.clone(),
            cache_control: $input.cache_control.clone(),
            user: $input
                .metadata
                .clone()
                .map(|map| map.into_iter().collect::<BTreeMap<_, _>>())
                .unwrap_or_default(),
        }
    };
}

/// Gives a reader back what was stored; GET and HEAD answers have the same fields.
macro_rules! set_headers {
    ($output:expr, $meta:expr, $with_sums:expr) => {{
        let meta: &Meta = $meta;
        $output.accept_ranges = Some("bytes".to_owned());
        $output.cache_control = meta.headers.cache_control.clone();
        $output.content_disposition = meta.headers.content_disposition.clone();
        $output.content_encoding = meta.headers.content_encoding.clone();
        $output.content_language = meta.headers.content_language.clone();
        $output.content_type = meta.headers.content_type.clone();
        $output.e_tag = Some(etag(meta));
        $output.last_modified = Some(modified(meta));
        $output.metadata =
            (!meta.headers.user.is_empty()).then(|| meta.headers.user.clone().into_iter().collect());
        if $with_sums && !meta.sums.is_empty() {
            set_sums!($output, meta.sums.clone());
            $output.checksum_type = Some(checksum_type(meta));
        }
    }};
}

/// Checks a read's conditions, in the standard's order of precedence.
macro_rules! check_read {
    ($input:expr, $meta:expr) => {{
        let meta: &Meta = $meta;
        match (&$input.if_match, &$input.if_unmodified_since) {
            (Some(wanted), _) if !tag_matches(wanted, meta) => return Err(s3_error!(PreconditionFailed)),
            (None, Some(since)) if seconds(&modified(meta)) > seconds(since) => {
                return Err(s3_error!(PreconditionFailed));
            }
            _ => {}
        }
        match (&$input.if_none_match, &$input.if_modified_since) {
            (Some(known), _) if tag_matches(known, meta) => return Err(not_modified(meta)),
            (None, Some(since)) if seconds(&modified(meta)) <= seconds(since) => {
                return Err(not_modified(meta));
            }
            _ => {}
        }
    }};
}

fn etag(meta: &Meta) -> ETag {
    ETag::Strong(meta.etag.clone())
}

fn modified(meta: &Meta) -> Timestamp {
    Timestamp::from(UNIX_EPOCH + Duration::from_micros(meta.modified_us))
}

/// HTTP dates have no finer grain.
fn seconds(at: &Timestamp) -> i64 {
    time::OffsetDateTime::from(at.clone()).unix_timestamp()
}

fn tag_matches(condition: &ETagCondition, meta: &Meta) -> bool {
    condition.as_etag().is_none_or(|tag| tag.value() == meta.etag)
}

fn not_modified(meta: &Meta) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    let mut headers = http::HeaderMap::new();
    if let Ok(tag) = etag(meta).to_http_header() {
        headers.insert(http::header::ETAG, tag);
    }
    error.set_headers(headers);
    error
}

fn checksum_type(meta: &Meta) -> ChecksumType {
    ChecksumType::from_static(if meta.composite {
        ChecksumType::COMPOSITE
    } else {
        ChecksumType::FULL_OBJECT
    })
}

fn wants_sums(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The page's answer.
fn list_output(
    input: ListObjectsV2Input,
    page: super::listing::Page<Arc<Meta>>,
    items_max: usize,
) -> ListObjectsV2Output {
    let url = input.encoding_type.as_ref().is_some_and(|kind| kind.as_str() == EncodingType::URL);
    let encode = |text: String| if url { url_encode(&text) } else { text };
    let count = page.objects.len() + page.prefixes.len();
    let object = |(key, meta): (String, Arc<Meta>)| s3s::dto::Object {
        key: Some(encode(key)),
        e_tag: Some(etag(&meta)),
        last_modified: Some(modified(&meta)),
        size: Some(i64::try_from(meta.bytes).unwrap_or(i64::MAX)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..s3s::dto::Object::default()
    };
    let prefix = |prefix: String| CommonPrefix { prefix: Some(encode(prefix)) };
    ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encode(input.prefix.unwrap_or_default())),
        delimiter: input.delimiter.map(encode),
        start_after: input.start_after.map(encode),
        max_keys: i32::try_from(items_max).ok(),
        key_count: i32::try_from(count).ok(),
        is_truncated: Some(page.next.is_some()),
        next_continuation_token: page.next.as_ref().map(Mark::to_token),
        continuation_token: input.continuation_token,
        encoding_type: input.encoding_type,
        contents: Some(page.objects.into_iter().map(object).collect()),
        common_prefixes: Some(page.prefixes.into_iter().map(prefix).collect()),
        ..ListObjectsV2Output::default()
    }
}

#[async_trait::async_trait]
impl S3 for Api {
    async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let bucket = request.input.bucket;
        let location = Some(format!("/{bucket}"));
        self.store(move |objects| objects.create_bucket(&bucket)).await?;
        Ok(S3Response::new(CreateBucketOutput { location }))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.objects.has_bucket(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn list_buckets(
        &self,
        _request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let bucket = |name| Bucket { name: Some(name), ..Bucket::default() };
        let buckets = self.objects.bucket_names().into_iter().map(bucket).collect();
        Ok(S3Response::new(ListBucketsOutput { buckets: Some(buckets), ..ListBucketsOutput::default() }))
    }

    async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.store(move |objects| objects.delete_bucket(&request.input.bucket)).await?;
        Ok(S3Response::new(DeleteBucketOutput::default()))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        self.objects.has_bucket(&input.bucket)?;
        if input.write_offset_bytes.is_some() || input.sse_customer_key.is_some() {
            return Err(s3_error!(NotImplemented, "appending and customer keys are not implemented"));
        }
        let condition = Condition::new(input.if_none_match.as_ref(), input.if_match.clone())?;
        let headers = headers_of!(input);
        let expected = sums_of!(input);
        let (body, verified) = self
            .receive(
                input.body,
                expected,
                request.trailing_headers,
                input.checksum_algorithm,
                input.content_md5,
            )
            .await?;
        let meta = Arc::new(Meta {
            bytes: body.len() as u64,
            etag: hex(&verified.md5),
            modified_us: clock::unix_us(),
            headers,
            sums: verified.sums,
            composite: false,
        });
        let mut output = PutObjectOutput { e_tag: Some(etag(&meta)), ..PutObjectOutput::default() };
        if !meta.sums.is_empty() {
            set_sums!(output, meta.sums.clone());
            output.checksum_type = Some(checksum_type(&meta));
        }
        let object = Object { meta, body };
        self.store(move |objects| objects.put(&input.bucket, &input.key, object, &condition)).await?;
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        let Object { meta, mut body } = self.store(move |objects| objects.get(&bucket, &key)).await?;
        check_read!(input, &meta);
        let mut output = GetObjectOutput::default();
        if let Some(range) = input.range {
            let range = range.check(meta.bytes)?;
            output.content_range = Some(format!("bytes {}-{}/{}", range.start, range.end - 1, meta.bytes));
            let at = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
            body = body.slice(at(range.start)..at(range.end));
        }
        // The sums are of the whole object, so they go only with the whole.
        let with_sums = input.range.is_none() && wants_sums(input.checksum_mode.as_ref());
        set_headers!(output, &meta, with_sums);
        output.content_length = Some(length(body.len()));
        output.body = Some(StreamingBlob::from(Body::from(body)));
        Ok(S3Response::new(output))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let meta = self.objects.head(&input.bucket, &input.key)?;
        check_read!(input, &meta);
        let mut output = HeadObjectOutput::default();
        set_headers!(output, &meta, wants_sums(input.checksum_mode.as_ref()));
        output.content_length = Some(i64::try_from(meta.bytes).unwrap_or(i64::MAX));
        Ok(S3Response::new(output))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let condition = Condition::new(None, input.if_match)?;
        self.store(move |objects| objects.delete(&input.bucket, &input.key, &condition)).await?;
        Ok(S3Response::with_status(DeleteObjectOutput::default(), http::StatusCode::NO_CONTENT))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        self.objects.has_bucket(&bucket)?;
        if delete.objects.len() > ITEMS_MAX {
            return Err(s3_error!(MalformedXML, "a bulk delete takes {ITEMS_MAX} keys at most"));
        }
        let quiet = delete.quiet.unwrap_or(false);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for object in delete.objects {
            let (bucket, key) = (bucket.clone(), object.key.clone());
            let condition = Condition::new(None, object.e_tag.map(ETagCondition::ETag))?;
            match self.store(move |objects| objects.delete(&bucket, &key, &condition)).await {
                Ok(()) if quiet => {}
                Ok(()) => deleted.push(DeletedObject { key: Some(object.key), ..DeletedObject::default() }),
                Err(error) => errors.push(Error {
                    code: Some(error.code().as_str().to_owned()),
                    key: Some(object.key),
                    message: error.message().map(str::to_owned),
                    version_id: None,
                }),
            }
        }
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            ..DeleteObjectsOutput::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let items_max = match input.max_keys {
            Some(keys) => usize::try_from(keys)
                .map_err(|_| s3_error!(InvalidArgument, "max-keys must not be negative"))?
                .min(ITEMS_MAX),
            None => ITEMS_MAX,
        };
        let bad_token = || s3_error!(InvalidArgument, "the continuation token is none of this server's");
        let after = match input.continuation_token.as_deref() {
            Some(token) => Some(Mark::from_token(token).ok_or_else(bad_token)?),
            None => None,
        };
        let query = Query {
            prefix: input.prefix.as_deref().unwrap_or(""),
            delimiter: input.delimiter.as_deref().unwrap_or(""),
            start_after: input.start_after.as_deref().unwrap_or(""),
            after: after.as_ref(),
            items_max,
        };
        let page = self.objects.list(&input.bucket, query)?;
        Ok(S3Response::new(list_output(input, page, items_max)))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        self.objects.has_bucket(&input.bucket)?;
        let upload_id = self.uploads.create(&input, headers_of!(input))?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let (id, bucket, key) = (&input.upload_id, &input.bucket, &input.key);
        let algorithm = self.uploads.algorithm(id, bucket, key)?.or_else(|| input.checksum_algorithm.clone());
        let expected = sums_of!(input);
        let (body, verified) = self
            .receive(input.body, expected, request.trailing_headers, algorithm, input.content_md5)
            .await?;
        let mut output =
            UploadPartOutput { e_tag: Some(ETag::Strong(hex(&verified.md5))), ..UploadPartOutput::default() };
        set_sums!(output, verified.sums);
        let part = Part { body, md5: verified.md5 };
        self.uploads.add_part(id, bucket, key, input.part_number, part)?;
        Ok(S3Response::new(output))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let condition = Condition::new(input.if_none_match.as_ref(), input.if_match.clone())?;
        let whole = self.uploads.assemble(&input, self.object_bytes_max, clock::unix_us())?;
        let meta = Arc::new(whole.meta);
        let object = Object { meta: Arc::clone(&meta), body: whole.body };
        let (bucket, key) = (input.bucket.clone(), input.key.clone());
        self.store(move |objects| objects.put(&bucket, &key, object, &condition)).await?;
        self.uploads.finish(&input.upload_id);
        let mut output = CompleteMultipartUploadOutput {
            location: Some(format!("/{}/{}", input.bucket, input.key)),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(etag(&meta)),
            ..CompleteMultipartUploadOutput::default()
        };
        if !meta.sums.is_empty() {
            set_sums!(output, meta.sums.clone());
            output.checksum_type = Some(checksum_type(&meta));
        }
        Ok(S3Response::new(output))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        self.uploads.abort(&input.upload_id, &input.bucket, &input.key)?;
        Ok(S3Response::with_status(AbortMultipartUploadOutput::default(), http::StatusCode::NO_CONTENT))
    }
}
