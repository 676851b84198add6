//! The parts of a stack, each started as a role of our own binary.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::{BUCKET, Blobs, Database, Error, PREFIX, S3_SECRET_ENV, S3Server};
use crate::containers::{self, Containers, Settings};
use crate::link::{LinkAdmin, LinkSpec, Profile};
use crate::postgres;
use crate::process::{Child, Fleet, Spec};
use crate::s3::{self, S3Admin};
use crate::secret::Secret;

/// A cluster is made first, and perhaps fetched.
const POSTGRES_READY_DEADLINE: Duration = Duration::from_secs(300);
const FETCH_DEADLINE: Duration = Duration::from_secs(600);
/// A warden first removes what killed runs have left.
const WARDEN_READY_DEADLINE: Duration = Duration::from_secs(120);

/// A running link emulator.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) child: Child,
    pub(super) admin: LinkAdmin,
    /// Where it listens.
    pub(super) addr: SocketAddr,
}

/// Starts parts in a fleet.
#[derive(Debug)]
pub(super) struct Launcher<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) exe: &'a Path,
    pub(super) dir: &'a Path,
    pub(super) link: &'a LinkSpec,
    pub(super) seed: u64,
}

impl Launcher<'_> {
    /// An ephemeral Postgres behind a link.
    pub(super) async fn native_database(&self, fetch: bool) -> Result<Database, Error> {
        let spec = self.role("postgres").args(["postgres", "--die-with-stdin"]);
        let (spec, deadline) = if fetch {
            (spec.arg("--fetch"), POSTGRES_READY_DEADLINE + FETCH_DEADLINE)
        } else {
            (spec, POSTGRES_READY_DEADLINE)
        };
        let keeper = self.fleet.start(spec.wait_for_ready_line(deadline)).await?;
        let ready = keeper.ready().ok_or_else(|| no_address(&keeper))?;
        let link = self.database_link(server_address(&keeper)?).await?;
        let version = postgres::version(&ready.url).await?;
        Ok(Database {
            url: with_address(&ready.url, link.addr).ok_or_else(|| no_address(&keeper))?,
            has_statements: postgres::server_statements(&ready.url).await.is_ok(),
            direct_url: ready.url,
            version: format!("PostgreSQL {version}"),
            link: Some(link),
            keeper: Some(keeper),
        })
    }

    /// A file that the service itself opens.
    pub(super) fn embedded_database(&self) -> Database {
        let url = format!("sqlite:{}", self.dir.join("mipro.db").display());
        Database {
            direct_url: url.clone(),
            url,
            version: "SQLite in the service's own process, no wire".to_owned(),
            link: None,
            has_statements: false,
            keeper: None,
        }
    }

    /// Our S3 server, with objects in a directory, behind a link.
    pub(super) async fn own_blobs(&self) -> Result<Blobs, Error> {
        let objects = self.dir.join("s3");
        std::fs::create_dir_all(&objects).map_err(|source| Error::Dir { path: objects.clone(), source })?;
        let secret_key = Secret::generate();
        let spec = self
            .role("s3")
            .args([
                "s3",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
                "--bucket",
                BUCKET,
                "--dir",
            ])
            .arg(&objects)
            .args(["--seed", &self.seed.to_string(), "--die-with-stdin"])
            .env(S3_SECRET_ENV, &secret_key.0);
        let child = self.fleet.start(spec).await?;
        let link = self.blobs_link(server_address(&child)?).await?;
        Ok(Blobs {
            url: format!("s3://{BUCKET}/{PREFIX}?endpoint=http://{}", link.addr),
            version: format!("mipro S3 server {}, objects in a directory", env!("CARGO_PKG_VERSION")),
            link: Some(link),
            keys: Some((s3::Options::default().access_key, secret_key)),
            server: Some(S3Server { admin: S3Admin::new(admin_address(&child)?), child }),
        })
    }

    /// Both containers, after the one who removes them.
    pub(super) async fn containers(&self, settings: &Settings) -> Result<Containers, Error> {
        // Told here, it is not told as the warden's last words.
        containers::engine_answers().await?;
        let run = uuid::Uuid::new_v4();
        let warden = self.role("warden").args(["warden", "--die-with-stdin", "--run", &run.to_string()]);
        self.fleet.start(warden.wait_for_ready_line(WARDEN_READY_DEADLINE)).await?;
        Ok(Containers::start(run, settings).await?)
    }

    /// The Postgres of `containers` behind a link.
    pub(super) async fn contained_database(&self, containers: &Containers) -> Result<Database, Error> {
        let (link, url) =
            (self.database_link(containers.postgres().addr()).await?, containers.postgres_url());
        let moved = with_address(url, link.addr);
        Ok(Database {
            url: moved.ok_or_else(|| Error::NoAddress { what: "Postgres container".to_owned() })?,
            has_statements: postgres::server_statements(url).await.is_ok(),
            direct_url: url.to_owned(),
            version: containers.postgres_version().to_owned(),
            link: Some(link),
            keeper: None,
        })
    }

    /// The S3 server of `containers` behind a link.
    pub(super) async fn contained_blobs(&self, containers: &Containers) -> Result<Blobs, Error> {
        let link = self.blobs_link(containers.s3().addr()).await?;
        Ok(Blobs {
            url: format!("s3://{BUCKET}/{PREFIX}?endpoint=http://{}", link.addr),
            version: containers.s3_version().to_owned(),
            link: Some(link),
            keys: Some(containers.s3_keys()),
            server: None,
        })
    }

    pub(super) async fn database_link(&self, upstream: SocketAddr) -> Result<Link, Error> {
        self.link("link-db", "postgres", upstream, &self.link.db, self.seed).await
    }

    pub(super) async fn blobs_link(&self, upstream: SocketAddr) -> Result<Link, Error> {
        // Another seed, so that the two wires' jitter is not the same.
        self.link("link-s3", "http", upstream, &self.link.s3, self.seed.wrapping_add(1)).await
    }

    async fn link(
        &self,
        name: &str,
        protocol: &str,
        upstream: SocketAddr,
        profile: &Profile,
        seed: u64,
    ) -> Result<Link, Error> {
        let mut spec = self
            .role(name)
            .args(["link", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--die-with-stdin"])
            .args(["--upstream", &upstream.to_string(), "--protocol", protocol, "--seed", &seed.to_string()])
            .args(["--rtt-us", &profile.rtt_us.to_string(), "--jitter-us", &profile.jitter_us.to_string()]);
        for (flag, bits) in
            [("--up-bps", profile.up_bits_per_second), ("--down-bps", profile.down_bits_per_second)]
        {
            if let Some(bits) = bits {
                spec = spec.arg(flag).arg(bits.to_string());
            }
        }
        let child = self.fleet.start(spec).await?;
        Ok(Link { admin: LinkAdmin::new(admin_address(&child)?), addr: server_address(&child)?, child })
    }

    fn role(&self, name: &str) -> Spec {
        Spec::role(name, self.exe).arg("testbed")
    }
}

fn server_address(child: &Child) -> Result<SocketAddr, Error> {
    let ready = child.ready();
    let address = ready.as_ref().and_then(|ready| ready.address()?.parse().ok());
    address.ok_or_else(|| no_address(child))
}

fn admin_address(child: &Child) -> Result<SocketAddr, Error> {
    let url = child.ready().and_then(|ready| ready.admin_url);
    let address = url.and_then(|url| crate::process::authority(&url)?.parse().ok());
    address.ok_or_else(|| no_address(child))
}

fn no_address(child: &Child) -> Error {
    Error::NoAddress { what: child.name().to_owned() }
}

/// The same URL, at another address.
pub(super) fn with_address(url: &str, address: SocketAddr) -> Option<String> {
    let mut url = url::Url::parse(url).ok()?;
    url.set_ip_host(address.ip()).ok()?;
    url.set_port(Some(address.port())).ok()?;
    Some(url.into())
}
