//! The life of the service: stores, engine, listener, connections; then the drain.
//!
//! A clean stop, within `shutdown_deadline_ms`: the listener closes at once; requests in flight go on and their
//! connections close behind them; when two thirds of the time are gone, those left are answered 503; then the engine saves
//! what is unsaved in the time that remains. What a log on this machine's disk has is kept even where that fails.
//!
//! A log whose disk has failed ends the service with an error, unless it shall go on without: see `on_log_failure`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use mipro_telemetry::Recorders;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{self, Keyring};
use crate::clock::Contexts;
use crate::config::{self, DurabilityLevel, EngineKind, OnLogFailure, Options, SnapshotFormat};
use crate::durability::Level;
use crate::engine::{self, Engine, EngineError, EngineOptions};
use crate::http::{self, App, Stop};
use crate::log::segment::OpenError;
use crate::metrics::Metrics;
use crate::proxy::upstream::Upstreams;
use crate::store::{self, Blobs, S3Credentials, StoreError, Stores};
use events::Events;
use socket::Impatient;

mod events;
mod socket;

/// After a failed accept (too many open files, most often) the next try waits this long.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How long connections have to send their last answers after the cut-off.
const CUTOFF_GRACE: Duration = Duration::from_millis(500);

/// Why the service could not run, or could not stop cleanly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be listened on.
    #[error("can't listen on {address}")]
    Listen {
        /// As configured.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The API keys can't be used.
    #[error(transparent)]
    Keys(#[from] auth::Error),
    /// A store can't be used.
    #[error("can't start")]
    Store(#[from] StoreError),
    /// The event log can't be used.
    #[error("can't start")]
    Log(#[from] OpenError),
    /// Opening the event log panicked.
    #[error("can't start: opening the event log panicked")]
    LogPanicked,
    /// A log of files is there, and the level asked for would not read it.
    #[error(
        "the event log in {} holds events of the levels os and disk, which durability memory would not read: start with one of these, or move the log away",
        .dir.display()
    )]
    LogLeft {
        /// Its directory.
        dir: PathBuf,
    },
    /// The event log has stopped in mid-run. What was acknowledged is in it; what was not may be.
    #[error(
        "the event log has stopped: {reason}; what was acknowledged is kept, and the next start replays it"
    )]
    LogFailed {
        /// What its disk said.
        reason: String,
    },
    /// The HTTP client can't be made.
    #[error("can't set up the client for LLM calls")]
    Client(#[from] reqwest::Error),
    /// Some state was not saved.
    #[error("stopped, but not all was saved")]
    Unsaved(#[source] EngineError),
    /// Saving took too long.
    #[error("stopped, but not all was saved within the deadline of {deadline_ms} ms")]
    Deadline {
        /// `shutdown_deadline_ms`.
        deadline_ms: u64,
    },
}

/// Checks what can be checked without serving: keys are read, the stores' URLs understood. Opens no connection.
/// Gives a line for each thing that an operator may want to see.
///
/// # Errors
/// As [`run`] would fail.
pub fn check(options: &Options) -> Result<Vec<String>, Error> {
    let keys = Keyring::load(&options.auth)?;
    Upstreams::new(options)?;
    let scheme = |url: &str| url.split(':').next().unwrap_or_default().to_owned();
    let who =
        if keys.is_open() { "open: no API keys".to_owned() } else { format!("{} API keys", keys.len()) };
    Ok(vec![
        format!("listen      {}", options.listen),
        format!("engine      {}", options.engine.name()),
        format!("durability  {}", promise(options)),
        format!("database    {}", scheme(options.database.url.expose())),
        format!("blobs       {}", scheme(options.blobs.url.expose())),
        format!("upstream    {}", options.upstream.as_deref().unwrap_or("each job's provider")),
        format!(
            "providers   {}",
            options.providers.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
        ),
        format!("auth        {who}"),
    ])
}

/// What a 200 promises, and where the log is that keeps the promise.
fn promise(options: &Options) -> String {
    match (options.engine, options.durability) {
        (EngineKind::Blob, _) => "stored".to_owned(),
        (EngineKind::Cache, _) if options.cache.save == config::Save::Through => "stored".to_owned(),
        (EngineKind::Cache, _) | (EngineKind::Actor, Some(DurabilityLevel::Memory)) => "memory".to_owned(),
        (EngineKind::Actor, level) => {
            let level = level.unwrap_or(DurabilityLevel::Disk).level();
            format!("{level}, the log in {}", options.log_dir().display())
        }
    }
}

/// Serves until `shutdown` is cancelled, then drains. `ready` is told the bound address once connections are accepted.
/// Dropping the future aborts: nothing is saved.
///
/// # Errors
/// When the service can't start, or stops with something unsaved.
pub async fn run(
    options: Options,
    ready: impl FnOnce(SocketAddr),
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let keys = Keyring::load(&options.auth)?;
    // The address is taken first: a second service on the same data must not get as far as the stores.
    let listener = listen(&options.listen).await?;
    let recorders = Recorders::new();
    let events = Events::open(&options, &recorders).await?;
    let stores = open_stores(&options).await?;
    let engine =
        engine::build_with_log(&engine_options(&options), stores.clone(), recorders.clone(), events.log());
    let served = serve(options, keys, engine, recorders, listener, ready, shutdown).await;
    stores.table.close().await;
    match (served, events.close().await) {
        (Ok(()) | Err(Error::LogFailed { .. }), Some(reason)) => Err(Error::LogFailed { reason }),
        (served, _) => served,
    }
}

async fn listen(address: &str) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address: address.to_owned(), source })
}

pub(crate) async fn open_stores(options: &Options) -> Result<Stores, Error> {
    let blobs = Blobs::open(&store::BlobOptions {
        url: options.blobs.url.expose().to_owned(),
        keep_alive: options.blobs.keep_alive,
        timeout: Duration::from_millis(options.blobs.timeout_ms),
        credentials: S3Credentials::from_env(),
    })?;
    let database = &options.database;
    if let Some(path) = database.url.expose().strip_prefix("sqlite:").filter(|path| !path.starts_with(':')) {
        make_parent(path)?;
    }
    let table = store::open_table(&store::TableOptions {
        url: database.url.expose().to_owned(),
        pool: database.pool,
        pool_size_max: database.pool_size_max,
        connect_timeout: Duration::from_millis(database.connect_timeout_ms),
        query_timeout: Duration::from_millis(database.query_timeout_ms),
    })
    .await?;
    Ok(Stores { table, blobs })
}

fn make_parent(path: &str) -> Result<(), Error> {
    let Some(parent) = std::path::Path::new(path).parent().filter(|parent| !parent.as_os_str().is_empty())
    else {
        return Ok(());
    };
    std::fs::create_dir_all(parent).map_err(|e| {
        Error::Store(StoreError::Config(format!("can't make the directory {}: {e}", parent.display())))
    })
}

fn engine_options(options: &Options) -> EngineOptions {
    let kind = match options.engine {
        EngineKind::Blob => engine::EngineKind::Blob,
        EngineKind::Cache => engine::EngineKind::Cache,
        EngineKind::Actor => engine::EngineKind::Actor,
    };
    let mut built = EngineOptions::new(kind, Contexts::from_os());
    let cache = &options.cache;
    built.cache.systems_max = cache.systems_max;
    built.cache.save = match cache.save {
        config::Save::Back => engine::Save::Back,
        config::Save::Through => engine::Save::Through,
    };
    built.cache.save_events_max = cache.save_events_max;
    built.cache.save_delay_max = Duration::from_millis(cache.save_delay_ms_max);
    let actor = &mut built.actor;
    actor.systems_max = cache.systems_max;
    actor.gate_wait_max = Duration::from_millis(options.gate_wait_ms_max);
    if options.durability == Some(DurabilityLevel::Memory) {
        actor.save_events_max = cache.save_events_max;
        actor.save_delay_max = Duration::from_millis(cache.save_delay_ms_max);
    } else {
        let snapshot = &options.snapshot;
        actor.format = match snapshot.format {
            SnapshotFormat::Binary => engine::Format::Binary,
            SnapshotFormat::Json => engine::Format::Document,
        };
        actor.save_events_max = snapshot.events_max;
        actor.save_delay_max = Duration::from_millis(snapshot.delay_ms_max);
        actor.tail_ratio = snapshot.tail_ratio;
        // Segments that are sealed often are looked for as often.
        let sealed_every = Duration::from_millis(options.log.segment_age_ms_max);
        actor.archive_every = actor.archive_every.min(sealed_every);
    }
    built.shutdown_deadline = Duration::from_millis(options.shutdown_deadline_ms);
    built
}

/// Serves an engine on a listener until `shutdown` is cancelled, then drains and shuts the engine down. For those who
/// bring their own engine; others use [`run`].
///
/// # Errors
/// When the HTTP client can't be made, or something was left unsaved.
pub async fn serve(
    options: Options,
    keys: Keyring,
    engine: Arc<dyn Engine>,
    recorders: Recorders,
    listener: TcpListener,
    ready: impl FnOnce(SocketAddr),
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let unnamed = |source| Error::Listen { address: options.listen.clone(), source };
    let address = listener.local_addr().map_err(unnamed)?;
    let app = Arc::new(App {
        public_url: options.public_url.clone().unwrap_or_else(|| local_url(address)),
        upstreams: Upstreams::new(&options)?,
        metrics: Arc::new(Metrics::new(recorders)),
        engine,
        keys,
        stop: Stop::default(),
        options: Arc::new(options),
    });
    let _close_behind = app.stop.closed.clone().drop_guard();
    greet(&app, address);
    ready(address);
    let connections = TaskTracker::new();
    tokio::select! {
        never = accept(&app, &listener, &connections) => match never {},
        () = shutdown.cancelled() => {}
        () = log_failed(&app) => {
            drop(listener);
            return Err(fail(&app, &connections).await);
        }
    }
    drop(listener);
    drain(&app, &connections).await
}

/// What proxy URLs start with where nobody said: an unspecified address is no place to send a client to.
fn local_url(mut address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{address}")
}

fn greet(app: &App, address: SocketAddr) {
    let options = &app.options;
    let (engine, durability) = (options.engine.name(), app.engine.durability().name());
    tracing::info!(%address, engine, durability, version = env!("CARGO_PKG_VERSION"), "serving");
    if app.keys.is_open() {
        tracing::warn!(
            "no API keys are configured: every caller is let in, as one org; set MIPRO_API_KEYS or --api-keys"
        );
        if options.proxy_auth == config::ProxyAuth::Required {
            tracing::warn!("proxy_auth = \"required\" has no effect without API keys");
        }
    }
    if options.public_url.is_none() && !address.ip().is_loopback() {
        tracing::warn!(
            "proxy URLs will start with {}; set public_url to what clients can reach",
            app.public_url
        );
    }
    for name in &options.unknown_variables {
        tracing::warn!("the environment variable {name} means nothing to this build");
    }
}

/// Accepts for ever. At most `connections_max` are open; further ones wait in the system's backlog.
async fn accept(
    app: &Arc<App>,
    listener: &TcpListener,
    connections: &TaskTracker,
) -> std::convert::Infallible {
    let limits = &app.options.limits;
    let places = Arc::new(Semaphore::new(limits.connections_max.min(Semaphore::MAX_PERMITS)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits.header_timeout_ms))
        .max_buf_size(limits.header_bytes_max);
    let header_bytes_max = u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(header_bytes_max);
    let router = http::router(Arc::clone(app));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let connection = connection(Arc::clone(app), builder.clone(), router.clone(), stream);
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
}

async fn connection(app: Arc<App>, builder: auto::Builder<TokioExecutor>, router: Router, stream: TcpStream) {
    let _counted = app.metrics.connection();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection broke before its first request");
        return;
    }
    let limits = &app.options.limits;
    let asked = AtomicBool::new(false);
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        router.call(request)
    });
    let stream = Impatient::new(stream, Duration::from_millis(limits.write_timeout_ms));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // The server's own clock for heads starts when it knows which protocol is spoken: who says nothing would never be timed.
    let first = sleep(Duration::from_millis(limits.header_timeout_ms));
    tokio::pin!(first);
    let (mut draining, mut silent) = (false, true);
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = app.stop.closed.cancelled() => return,
            () = first.as_mut(), if silent => {
                silent = false;
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
            }
            () = app.stop.draining.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Ends when the event log has stopped and the process should, too.
async fn log_failed(app: &App) {
    app.engine.log_failed().await;
    if app.options.on_log_failure == OnLogFailure::ServeUnrecorded {
        tracing::error!(
            "the event log has stopped; the proxy goes on unrecorded, status calls are refused, nothing is learned: restart when its disk is well"
        );
        std::future::pending::<()>().await;
    }
}

/// Lets those who wait have their 503, and gives the error to end with.
async fn fail(app: &App, connections: &TaskTracker) -> Error {
    tracing::error!(
        in_flight = app.metrics.in_flight(),
        "the event log has stopped; nothing more is acknowledged"
    );
    app.stop.draining.cancel();
    app.stop.cutoff.cancel();
    connections.close();
    // Whoever does not read its answer by then has lost it.
    let _ = timeout_at(Instant::now() + CUTOFF_GRACE, connections.wait()).await;
    Error::LogFailed { reason: "its disk failed".to_owned() }
}

async fn drain(app: &Arc<App>, connections: &TaskTracker) -> Result<(), Error> {
    let deadline_ms = app.options.shutdown_deadline_ms;
    let begun = Instant::now();
    let deadline = begun + Duration::from_millis(deadline_ms);
    tracing::info!(in_flight = app.metrics.in_flight(), deadline_ms, "stopping");
    app.stop.draining.cancel();
    connections.close();
    let patience = begun + Duration::from_millis(deadline_ms) * 2 / 3;
    if timeout_at(patience, connections.wait()).await.is_err() {
        tracing::warn!(
            in_flight = app.metrics.in_flight(),
            "the deadline is near: requests in flight get 503"
        );
        app.stop.cutoff.cancel();
        let grace = (Instant::now() + CUTOFF_GRACE).min(deadline);
        // Whoever does not read its answer by then has lost it.
        let _ = timeout_at(grace, connections.wait()).await;
    }
    match timeout_at(deadline, app.engine.shutdown()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(Error::Unsaved(error)),
        Err(_) if matches!(app.engine.durability(), Level::Os | Level::Disk) => {
            tracing::warn!(
                deadline_ms,
                "the deadline passed before every state was stored; the log has what was acknowledged"
            );
        }
        Err(_) => return Err(Error::Deadline { deadline_ms }),
    }
    tracing::info!(took_ms = begun.elapsed().as_millis(), "stopped; nothing that was acknowledged is lost");
    Ok(())
}
