//! Whether a server that has started can be used for what it is here for.

use futures_util::future::join_all;
use http::{Method, StatusCode, header};
use uuid::Uuid;

use super::Error;
use super::s3_client::{S3Answer, S3Client};
use crate::stack::BUCKET;

const BODY: &[u8] = b"a probe of the testbed";
const OTHER_BODY: &[u8] = b"another writer";
const RACE_ROUNDS: usize = 3;
const RACE_WRITERS: usize = 8;

/// Whether the server takes our keys, has our bucket (it is made if not), and gives back what it was given.
///
/// The error is the reason for a try's failure; a server that is starting may fail many times.
pub(super) async fn serves(client: &S3Client) -> Result<(), String> {
    let made = client.call(Method::PUT, &format!("/{BUCKET}"), b"", false).await?;
    let is_there = made.status.is_success() || made.status == StatusCode::CONFLICT;
    if !is_there {
        return Err(format!("making the bucket: {}", made.said()));
    }
    let path = probe_path();
    let put = client.call(Method::PUT, &path, BODY, false).await?;
    if !put.status.is_success() {
        return Err(format!("writing an object: {}", put.said()));
    }
    let got = client.call(Method::GET, &path, b"", false).await?;
    if !got.status.is_success() || got.body != BODY {
        return Err(format!("reading an object back: {}, {} bytes", got.said(), got.body.len()));
    }
    remove(client, &path).await;
    Ok(())
}

/// Whether `If-None-Match: *` is heeded, and by how many of several writers at once it is won: what fences two owners of
/// one system from each other. A server that ignores it answers 200, and nothing else would show.
pub(super) async fn does_conditions(client: &S3Client, image: &str) -> Result<(), Error> {
    let refuse = |reason: String| Error::NoConditions { image: image.to_owned(), reason };
    let path = probe_path();
    let first = client.call(Method::PUT, &path, BODY, true).await.map_err(refuse)?;
    if !first.status.is_success() {
        return Err(refuse(format!("a conditional PUT of a new key was answered {}", first.said())));
    }
    let second = client.call(Method::PUT, &path, OTHER_BODY, true).await.map_err(refuse)?;
    remove(client, &path).await;
    if second.status != StatusCode::PRECONDITION_FAILED {
        let said = second.said();
        return Err(refuse(format!("a PUT with If-None-Match: * over an existing key was answered {said}")));
    }
    for _ in 0..RACE_ROUNDS {
        let path = probe_path();
        let writers = (0..RACE_WRITERS).map(|_| client.call(Method::PUT, &path, BODY, true));
        let won = join_all(writers).await.into_iter().filter(|answer| is_success(answer.as_ref())).count();
        remove(client, &path).await;
        if won != 1 {
            return Err(refuse(format!(
                "of {RACE_WRITERS} writers at once with If-None-Match: *, {won} succeeded"
            )));
        }
    }
    Ok(())
}

/// What the server calls itself, if it does.
pub(super) async fn server_name(client: &S3Client) -> Option<String> {
    let answer = client.call(Method::GET, &format!("/{BUCKET}"), b"", false).await.ok()?;
    let name = answer.headers.get(header::SERVER)?.to_str().ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

fn is_success(answer: Result<&S3Answer, &String>) -> bool {
    answer.is_ok_and(|answer| answer.status.is_success())
}

fn probe_path() -> String {
    format!("/{BUCKET}/testbed-probe/{}", Uuid::new_v4().simple())
}

/// Leaves nothing in the bucket, if the server lets us.
async fn remove(client: &S3Client, path: &str) {
    let _ = client.call(Method::DELETE, path, b"", false).await;
}
