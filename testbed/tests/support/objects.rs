//! `object_store` on a minimal HTTP connector.

use std::net::SocketAddr;

use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::TokioExecutor;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};

/// A client of the server at `addr`, or of whatever stands before it. It never tries twice.
pub(crate) fn client(addr: SocketAddr, bucket: &str, access_key: &str, secret_key: &str) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(format!("http://{addr}"))
        .with_allow_http(true)
        .with_bucket_name(bucket)
        .with_region("us-east-1")
        .with_access_key_id(access_key)
        .with_secret_access_key(secret_key)
        .with_retry(object_store::RetryConfig { max_retries: 0, ..Default::default() })
        .with_http_connector(Hyper)
        .build()
        .unwrap()
}

#[derive(Debug)]
struct Hyper;

impl HttpConnector for Hyper {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Ok(HttpClient::new(Service(client)))
    }
}

#[derive(Debug)]
struct Service(Client<TcpConnector, HttpRequestBody>);

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response =
            self.0.request(request).await.map_err(|error| HttpError::new(HttpErrorKind::Request, error))?;
        let body = |error| HttpError::new(HttpErrorKind::Interrupted, error);
        Ok(response.map(|incoming| HttpResponseBody::new(incoming.map_err(body))))
    }
}
