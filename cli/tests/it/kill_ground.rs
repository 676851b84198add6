//! What stays up while the service is killed again and again: the stores, the mock LLM, and the service's data directory.

use std::io::Write as _;
use std::path::Path;

use mipro_testbed::containers::{Overrides, ServerOverrides, Settings, available};
use mipro_testbed::link::LinkSpec;
use mipro_testbed::process::Fleet;
use mipro_testbed::stack::{Request, Stack, StackKind, resolve};
use tempfile::TempDir;

use super::common::*;

/// Stores, mock and data directory.
pub(crate) struct Ground {
    stack: Stack,
    _fleet: Fleet,
    mock: Role,
    dir: TempDir,
}

impl Ground {
    /// For a service whose snapshots have this format. `None`, and said so, where this machine has not what it takes.
    pub(crate) async fn new(kind: StackKind, format: &str) -> Option<Self> {
        let containers = images();
        if kind == StackKind::Containers
            && let Err(error) = available(&containers).await
        {
            return missing(kind, &error);
        }
        let plan = match resolve(&Request { kind, containers, ..Request::default() }) {
            Ok(plan) => plan,
            Err(error) => return missing(kind, &error),
        };
        let dir = tempfile::tempdir().unwrap();
        let fleet = Fleet::new(dir.path());
        let exe = Path::new(env!("CARGO_BIN_EXE_mipro"));
        let stack =
            Box::pin(Stack::start(plan, exe, dir.path(), &LinkSpec::loopback(), 1, &fleet)).await.unwrap();
        let mock = Role::start(&["mock-llm", "--listen", "127.0.0.1:0", "--latency", "none"], &[]);
        std::fs::write(dir.path().join("c.toml"), config(&stack, format)).unwrap();
        Some(Self { stack, _fleet: fleet, mock, dir })
    }

    /// What the service stands on.
    pub(crate) fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Starts the service on what is there; `crash` arms one of its crash points, as `name:n`.
    pub(crate) fn serve(&self, crash: Option<&str>) -> Result<Role, Dead> {
        let armed = crash.map(|crash| ("MIPRO_CRASH_AT", crash));
        self.serve_with(armed.as_slice())
    }

    /// Starts the service on what is there, with further environment variables.
    pub(crate) fn serve_with(&self, more: &[(&str, &str)]) -> Result<Role, Dead> {
        let (file, data) = (self.dir.path().join("c.toml"), self.dir.path().join("data"));
        let upstream = format!("{}/v1", self.mock.url);
        let args = ["serve", "--listen", "127.0.0.1:0", "--upstream", &upstream, "--config"];
        let rest = [file.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
        let args: Vec<&str> = args.into_iter().chain(rest).collect();
        let keys = format!("{KEY}:{ORG}");
        let stores = self.stack.service_env();
        let mut env = vec![("MIPRO_API_KEYS", keys.as_str())];
        env.extend(stores.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        env.extend(more);
        Role::try_start(&args, &env)
    }

    /// Holds the state against the log with the binary's own command, where this build has it. The service must be down.
    pub(crate) fn verify(&self) {
        if !run(&["state", "verify", "--help"], &[]).0.success() {
            return;
        }
        let (file, data) = (self.dir.path().join("c.toml"), self.dir.path().join("data"));
        let args =
            ["state", "verify", "--config", file.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
        let stores = self.stack.service_env();
        let env: Vec<(&str, &str)> =
            stores.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let (status, stdout, stderr) = run(&args, &env);
        assert!(status.success(), "{status}: {stdout}{stderr}");
    }
}

/// The images of `scripts/build-images`, unless the environment names others.
fn images() -> Settings {
    let image = |variable: &str, built: &str| {
        let image = std::env::var(variable).unwrap_or_else(|_| built.to_owned());
        ServerOverrides { image: Some(image), ..ServerOverrides::default() }
    };
    let overrides = Overrides {
        postgres: image("MIPRO_POSTGRES_IMAGE", "local/mipro-postgres:15"),
        s3: image("MIPRO_S3_IMAGE", "local/mipro-s3:dev"),
        ..Overrides::default()
    };
    Settings::new(&overrides).unwrap()
}

fn missing(kind: StackKind, error: &dyn std::error::Error) -> Option<Ground> {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{kind} is needed with CI=true: {error}");
    let _ = writeln!(std::io::stderr(), "skipped: no {kind} stack ({error})");
    None
}

/// Small and short-lived segments, frequent snapshots: every crash point is passed within a few dozen calls.
fn config(stack: &Stack, format: &str) -> String {
    format!(
        "engine = \"actor\"\ndurability = \"disk\"\n[database]\nurl = \"{}\"\n[blobs]\nurl = \"{}\"\n\
         [log]\nsegment_bytes = 65536\nsegment_age_ms_max = 200\n[snapshot]\nformat = \"{format}\"\nevents_max = 12\ndelay_ms_max = 100\n",
        stack.database_url(),
        stack.blobs_url()
    )
}
