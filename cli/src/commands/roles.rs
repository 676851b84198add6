//! The servers: each says where it listens on stdout, once, and runs until it is told to stop.

use std::net::SocketAddr;

use anyhow::Context as _;
use mipro_mock_llm::{llm, task_app as app};
use mipro_service::config::{Flags, Options};
use mipro_telemetry::profile::Profiler;
use mipro_testbed::containers::run_warden;
use mipro_testbed::process::shutdown_on_request;
use mipro_testbed::{link as link_emulator, postgres as keeper, s3 as s3_server};
use tokio::signal::unix::{SignalKind, signal};

use super::print;
use crate::args::{LinkArgs, MockLlmArgs, PostgresArgs, S3Args, ServeArgs, Spoken, TaskAppArgs, WardenArgs};
use crate::exit::Code;

/// Environment variable with the secret key of the testbed's S3 server; command lines can be read by everyone.
const S3_SECRET_VARIABLE: &str = "MIPRO_TESTBED_S3_SECRET";

fn say(line: &str) {
    if let Err(error) = print(&format!("{line}\n")) {
        tracing::warn!(%error, "nobody could be told where this server listens");
    }
}

fn say_http(address: SocketAddr) {
    say(&format!("listening on http://{address}"));
}

fn with_admin(line: String, admin: Option<SocketAddr>) -> String {
    match admin {
        Some(admin) => format!("{line} admin http://{admin}"),
        None => line,
    }
}

/// `mipro serve`
pub(crate) async fn serve(args: ServeArgs, profiler: Option<Profiler>) -> anyhow::Result<Code> {
    let flags = Flags {
        config: args.config,
        listen: args.listen,
        data_dir: args.data_dir,
        database: args.database,
        blobs: args.blobs,
        engine: args.engine,
        durability: args.durability,
        upstream: args.upstream,
        public_url: args.public_url,
        server_timing: args.server_timing,
        api_keys_file: args.api_keys,
    };
    let options = Options::load(&flags).context("the configuration is not good")?;
    if args.check_config {
        let lines = mipro_service::app::check(&options).context("the configuration is not good")?;
        say(&format!("the configuration is good\n{}", lines.join("\n")));
        return Ok(Code::Ok);
    }
    let shutdown = shutdown_on_request(args.child.die_with_stdin)?;
    let running = mipro_service::app::run(options, say_http, shutdown);
    match profiler {
        None => running.await.context("the service could not run")?,
        Some(profiler) => profiled(running, &profiler).await?,
    }
    Ok(Code::Ok)
}

/// Serves until the end, begins the profile anew at each SIGUSR1, and writes it when the service has stopped.
async fn profiled(
    running: impl Future<Output = Result<(), mipro_service::app::Error>>,
    profiler: &Profiler,
) -> anyhow::Result<()> {
    let mut again = signal(SignalKind::user_defined1()).context("SIGUSR1 can't be listened for")?;
    let mut running = std::pin::pin!(running);
    let ended = loop {
        tokio::select! {
            biased;
            ended = &mut running => break ended,
            _ = again.recv() => profiler.begin().context("the profile's directory can't be written to")?,
        }
    };
    profiler.write().context("the profile could not be written")?;
    ended.context("the service could not run")
}

/// `mipro mock-llm`
pub(crate) async fn mock_llm(args: MockLlmArgs) -> anyhow::Result<Code> {
    let options = llm::Options {
        listen: args.listen,
        dataset: args.dataset,
        latency: args.latency.parse().context("--latency")?,
        seed: args.seed,
        faults: args.faults.as_deref().unwrap_or_default().parse().context("--faults")?,
    };
    let shutdown = shutdown_on_request(args.child.die_with_stdin)?;
    llm::run(options, say_http, shutdown).await.context("the mock LLM could not run")?;
    Ok(Code::Ok)
}

/// `mipro task-app`
pub(crate) async fn task_app(args: TaskAppArgs) -> anyhow::Result<Code> {
    let api_key = std::env::var("ENVIRONMENT_API_KEY").ok().filter(|key| !key.is_empty());
    let options = app::Options {
        listen: args.listen,
        dataset: args.dataset,
        api_key: api_key.map(mipro_mock_llm::Secret::new),
        ..app::Options::default()
    };
    let shutdown = shutdown_on_request(args.child.die_with_stdin)?;
    app::run(options, say_http, shutdown).await.context("the task app could not run")?;
    Ok(Code::Ok)
}

/// `mipro testbed postgres`
pub(crate) async fn postgres(args: PostgresArgs) -> anyhow::Result<Code> {
    let options = keeper::Options { pg_bin: args.pg_bin, fetch: args.fetch, ..keeper::Options::default() };
    let shutdown = shutdown_on_request(args.child.die_with_stdin)?;
    let ready = |ready: keeper::Ready| say(&format!("listening on {}", ready.url));
    keeper::run(options, ready, shutdown).await.context("Postgres could not run")?;
    Ok(Code::Ok)
}

/// `mipro testbed s3`
pub(crate) async fn s3(args: S3Args) -> anyhow::Result<Code> {
    let secret_key = std::env::var(S3_SECRET_VARIABLE)
        .with_context(|| format!("the secret key is taken from {S3_SECRET_VARIABLE}"))?;
    let backend = match args.dir {
        Some(dir) => s3_server::Backend::Dir(dir),
        None => s3_server::Backend::Memory,
    };
    let options = s3_server::Options {
        listen: args.listen,
        admin_listen: args.admin_listen,
        backend,
        bucket: args.bucket,
        secret_key,
        seed: args.seed,
        ..s3_server::Options::default()
    };
    let shutdown = shutdown_on_request(args.child.die_with_stdin)?;
    let ready = |ready: s3_server::Ready| {
        say(&with_admin(format!("listening on http://{}", ready.addr), ready.admin_addr));
    };
    s3_server::run(options, ready, shutdown).await.context("the S3 server could not run")?;
    Ok(Code::Ok)
}

/// `mipro testbed warden`
pub(crate) async fn warden(args: WardenArgs) -> anyhow::Result<Code> {
    let shutdown = shutdown_on_request(args.child.die_with_stdin)?;
    // It serves nobody; the line says that its run may begin.
    let ready = || say("listening on containers://localhost:0");
    run_warden(args.run, ready, shutdown).await.context("the containers' warden could not run")?;
    Ok(Code::Ok)
}

/// `mipro testbed link`
pub(crate) async fn link(args: LinkArgs) -> anyhow::Result<Code> {
    let protocol = match args.protocol {
        Spoken::Raw => link_emulator::Protocol::Raw,
        Spoken::Postgres => link_emulator::Protocol::Postgres,
        Spoken::Http => link_emulator::Protocol::Http,
    };
    let options = link_emulator::Options {
        listen: args.listen,
        admin_listen: args.admin_listen,
        profile: link_emulator::Profile {
            rtt_us: args.rtt_us,
            jitter_us: args.jitter_us,
            up_bits_per_second: args.up_bps,
            down_bits_per_second: args.down_bps,
        },
        seed: args.seed,
        ..link_emulator::Options::new(args.upstream, protocol)
    };
    let shutdown = shutdown_on_request(args.child.die_with_stdin)?;
    let ready = |ready: link_emulator::Ready| {
        say(&with_admin(format!("listening on tcp://{}", ready.addr), ready.admin_addr));
    };
    link_emulator::run(options, ready, shutdown).await.context("the link emulator could not run")?;
    Ok(Code::Ok)
}
