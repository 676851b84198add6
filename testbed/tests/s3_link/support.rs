//! A running S3 server, and `object_store` on a minimal HTTP connector.

use std::net::SocketAddr;

use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::TokioExecutor;
use mipro_testbed::s3::{self, Options, S3Admin};
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A server that stops when dropped.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) admin: S3Admin,
    options: Options,
    stop: CancellationToken,
    task: JoinHandle<Result<(), s3::Error>>,
}

impl Server {
    pub(crate) async fn start(options: Options) -> Self {
        let options = Options { admin_listen: Some(([127, 0, 0, 1], 0).into()), ..options };
        let stop = CancellationToken::new();
        let (send, ready) = oneshot::channel();
        let run = s3::run(options.clone(), |ready| send.send(ready).unwrap(), stop.clone());
        let task = tokio::spawn(run);
        let ready = ready.await.expect("the server starts");
        Self { addr: ready.addr, admin: S3Admin::new(ready.admin_addr.unwrap()), options, stop, task }
    }

    /// A client of the server, or of whatever stands before it.
    pub(crate) fn client_at(&self, addr: SocketAddr) -> AmazonS3 {
        AmazonS3Builder::new()
            .with_endpoint(format!("http://{addr}"))
            .with_allow_http(true)
            .with_bucket_name(&self.options.bucket)
            .with_region("us-east-1")
            .with_access_key_id(&self.options.access_key)
            .with_secret_access_key(&self.options.secret_key)
            .with_retry(object_store::RetryConfig { max_retries: 0, ..Default::default() })
            .with_http_connector(Hyper)
            .build()
            .unwrap()
    }

    pub(crate) fn client(&self) -> AmazonS3 {
        self.client_at(self.addr)
    }

    pub(crate) async fn stop(mut self) -> Result<(), s3::Error> {
        self.stop.cancel();
        (&mut self.task).await.unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
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
