//! The admin listener: a few JSON routes on a socket of their own, so that faults and delays set on the data
//! socket never get in the way of taking them back.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const BODY_BYTES_MAX: usize = 1 << 20;
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);

/// What a component lets its admin listener do. Calls are quick and never block.
pub(crate) trait Admin: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, method: &Method, path: &str, body: &[u8]) -> Answer;
}

/// An admin route's answer.
pub(crate) enum Answer {
    /// 200 with a JSON body.
    Json(Vec<u8>),
    /// 400: the text says what is wrong with the request.
    BadRequest(String),
    /// 404: no such route.
    NotFound,
}

impl Answer {
    /// 200 with `value` as JSON.
    pub(crate) fn json<T: Serialize>(value: &T) -> Self {
        Self::Json(serde_json::to_vec(value).expect("admin answers are plain structs of numbers and text"))
    }

    /// Parses the body and hands it to `act`, whose error is the answer's text.
    pub(crate) fn apply<T: DeserializeOwned, R: Serialize>(
        body: &[u8],
        act: impl FnOnce(T) -> Result<R, String>,
    ) -> Self {
        let outcome =
            serde_json::from_slice(body).map_err(|error| format!("invalid JSON: {error}")).and_then(act);
        match outcome {
            Ok(value) => Self::json(&value),
            Err(message) => Self::BadRequest(message),
        }
    }
}

/// The text of an answer that is not 200.
#[derive(Debug, Serialize, serde::Deserialize)]
pub(super) struct Refusal {
    pub(super) error: String,
}

/// Serves admin requests until `stop` is cancelled. Dropping the future aborts.
pub(crate) async fn serve_admin<A: Admin>(listener: TcpListener, admin: Arc<A>, stop: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(answer(&*admin, request).await) }
    });
    super::serve(listener, service, stop, DRAIN_DEADLINE).await;
}

async fn answer<A: Admin>(admin: &A, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let answer = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => admin.handle(&head.method, head.uri.path(), &body.to_bytes()),
        Err(error) => Answer::BadRequest(format!("failed to read the body: {error}")),
    };
    let (status, body) = match answer {
        Answer::Json(body) => (StatusCode::OK, body),
        Answer::BadRequest(message) => (StatusCode::BAD_REQUEST, refusal(message)),
        Answer::NotFound => {
            (StatusCode::NOT_FOUND, refusal(format!("no route {} {}", head.method, head.uri.path())))
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn refusal(error: String) -> Vec<u8> {
    serde_json::to_vec(&Refusal { error }).expect("a struct of one text serializes")
}
