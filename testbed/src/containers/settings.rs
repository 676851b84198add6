//! Which images, and how they are told what they need.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::secret::Secret;
use crate::stack::BUCKET;

/// The user and the database of a Postgres container.
pub(super) const POSTGRES_NAME: &str = "mipro";
const POSTGRES_IMAGE: &str = "postgres:17";
/// As our native cluster is run. `fsync` is on by default in every image but testcontainers' own module.
const POSTGRES_COMMAND: &str = "postgres -c shared_preload_libraries=pg_stat_statements -c max_connections=400 \
                                -c shared_buffers=64MB -c fsync=on";
const POSTGRES_ENV: &str = "POSTGRES_USER={user} POSTGRES_PASSWORD={secret_key} POSTGRES_DB={user}";
/// A first start on a busy machine takes many seconds.
const READY_DEADLINE: Duration = Duration::from_secs(120);

/// How one S3 server is started and told its keys.
///
/// | preset | image unless named | command | environment | port |
/// |---|---|---|---|---|
/// | `minio` | `minio/minio:RELEASE.2025-02-28T09-55-16Z` | `server /data` | `MINIO_ROOT_USER`, `MINIO_ROOT_PASSWORD` | 9000 |
/// | `seaweedfs` | `chrislusf/seaweedfs:latest` | `server -dir=/data -ip.bind=0.0.0.0 -s3 …` | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` | 8333 |
/// | `rustfs` | `rustfs/rustfs:latest` | the image's own | `RUSTFS_ACCESS_KEY`, `RUSTFS_SECRET_KEY`, … | 9000 |
/// | `mipro` | `local/mipro-s3:dev` | `testbed s3 --listen 0.0.0.0:9000 …` | `MIPRO_TESTBED_S3_SECRET` | 9000 |
///
/// Without a preset it is told by the image's name: one with `seaweedfs`, `rustfs` or `mipro-s3` in it, else `minio`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum S3Preset {
    /// MinIO.
    #[default]
    Minio,
    /// SeaweedFS: master, volume, filer and S3 in one process.
    Seaweedfs,
    /// RustFS.
    Rustfs,
    /// Our own S3 server, in a container.
    Mipro,
}

struct PresetText {
    name: &'static str,
    image: &'static str,
    command: &'static str,
    env: &'static str,
    port: u16,
    ready_text: Option<&'static str>,
    /// Where the server knows only one.
    access_key: Option<&'static str>,
}

impl S3Preset {
    /// All of them, in the order of the help text.
    pub const ALL: [Self; 4] = [Self::Minio, Self::Seaweedfs, Self::Rustfs, Self::Mipro];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.text().name
    }

    fn of_image(image: &str) -> Self {
        // The image's own name, so that a registry's or a user's says nothing.
        let name = image.rsplit('/').next().unwrap_or(image);
        let known = [("seaweedfs", Self::Seaweedfs), ("rustfs", Self::Rustfs), ("mipro-s3", Self::Mipro)];
        known.iter().find(|(part, _)| name.contains(part)).map_or(Self::Minio, |(_, preset)| *preset)
    }

    fn text(self) -> PresetText {
        match self {
            Self::Minio => PresetText {
                name: "minio",
                image: "minio/minio:RELEASE.2025-02-28T09-55-16Z",
                command: "server /data",
                env: "MINIO_ROOT_USER={access_key} MINIO_ROOT_PASSWORD={secret_key}",
                port: 9000,
                ready_text: None,
                access_key: None,
            },
            Self::Seaweedfs => PresetText {
                name: "seaweedfs",
                image: "chrislusf/seaweedfs:latest",
                // With fewer volumes than its default many buckets get no room: InternalError from the third on.
                command: "server -dir=/data -ip.bind=0.0.0.0 -s3 -s3.port=8333 -master.volumeSizeLimitMB=64 \
                          -volume.max=300",
                env: "AWS_ACCESS_KEY_ID={access_key} AWS_SECRET_ACCESS_KEY={secret_key}",
                port: 8333,
                ready_text: None,
                access_key: None,
            },
            Self::Rustfs => PresetText {
                name: "rustfs",
                image: "rustfs/rustfs:latest",
                command: "",
                env: "RUSTFS_ACCESS_KEY={access_key} RUSTFS_SECRET_KEY={secret_key} RUSTFS_ADDRESS=0.0.0.0:9000 \
                      RUSTFS_VOLUMES=/data RUSTFS_CONSOLE_ENABLE=false",
                port: 9000,
                ready_text: None,
                access_key: None,
            },
            Self::Mipro => PresetText {
                name: "mipro",
                image: "local/mipro-s3:dev",
                command: "testbed s3 --listen 0.0.0.0:9000 --bucket {bucket} --dir /data",
                env: "MIPRO_TESTBED_S3_SECRET={secret_key}",
                port: 9000,
                ready_text: Some("listening on http://"),
                access_key: Some("mipro-testbed"),
            },
        }
    }
}

impl FromStr for S3Preset {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let found = Self::ALL.into_iter().find(|preset| preset.name() == text);
        found.ok_or_else(|| SettingsError::Preset(text.to_owned()))
    }
}

/// Why settings are refused. Names them as the command line does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A name of no preset.
    #[error("unknown S3 preset {0:?}: use minio, seaweedfs, rustfs or mipro")]
    Preset(String),
    /// An image's name that can't be one.
    #[error("{0:?} is no name of an image: use name:tag, without blanks")]
    Image(String),
    /// A secret where everyone could read it.
    #[error(
        "{{secret_key}} may not stand in a container's command, which every user can read: put it into its environment"
    )]
    SecretInCommand,
    /// A variable without a value.
    #[error("{0:?} is no environment of a container: use NAME=VALUE NAME=VALUE")]
    Env(String),
}

/// What is said about one server; what is `None` is as the preset has it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ServerOverrides {
    /// `name:tag`, also with a registry before it.
    pub image: Option<String>,
    /// The command's words, separated by blanks. `{bucket}` and `{access_key}` are replaced.
    pub command: Option<String>,
    /// `NAME=VALUE` pairs, separated by blanks. `{user}`, `{bucket}`, `{access_key}` and `{secret_key}` are replaced.
    pub env: Option<String>,
    /// The port it listens on, inside.
    pub port: Option<u16>,
    /// What its log must hold before it is asked anything.
    pub ready_text: Option<String>,
}

/// Without the environment, which may hold secrets.
impl fmt::Debug for ServerOverrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOverrides").field("image", &self.image).finish_non_exhaustive()
    }
}

/// What is said about both servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The database's.
    pub postgres: ServerOverrides,
    /// The object store's.
    pub s3: ServerOverrides,
    /// Which kind of S3 server the image holds; without it the image's name tells.
    pub s3_preset: Option<S3Preset>,
    /// For a server with keys of its own: both, or neither. Generated for each run otherwise.
    pub s3_keys: Option<(String, Secret)>,
}

/// How one container is started. Texts still hold their `{placeholders}`.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerSettings {
    pub(super) image: String,
    pub(super) command: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) port: u16,
    pub(super) ready_text: Option<String>,
    pub(super) ready_deadline: Duration,
}

/// Without the environment, which may hold secrets.
impl fmt::Debug for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSettings").field("image", &self.image).finish_non_exhaustive()
    }
}

/// How the containers of a stack are started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub(super) postgres: ServerSettings,
    pub(super) s3: ServerSettings,
    pub(super) s3_access_key: Option<String>,
    pub(super) s3_secret_key: Option<Secret>,
}

impl Settings {
    /// The defaults with what is said otherwise.
    ///
    /// # Errors
    /// Names what can't be meant.
    pub fn new(overrides: &Overrides) -> Result<Self, SettingsError> {
        let said = &overrides.postgres;
        let postgres = server(
            said,
            &ServerSettings {
                image: POSTGRES_IMAGE.to_owned(),
                command: words(POSTGRES_COMMAND),
                env: pairs(POSTGRES_ENV)?,
                port: 5432,
                ready_text: None,
                ready_deadline: READY_DEADLINE,
            },
        )?;
        let named = overrides.s3.image.as_deref();
        let preset =
            overrides.s3_preset.unwrap_or_else(|| named.map_or_else(S3Preset::default, S3Preset::of_image));
        let text = preset.text();
        let s3 = server(
            &overrides.s3,
            &ServerSettings {
                image: text.image.to_owned(),
                command: words(text.command),
                env: pairs(text.env)?,
                port: text.port,
                ready_text: text.ready_text.map(str::to_owned),
                ready_deadline: READY_DEADLINE,
            },
        )?;
        let keys = overrides.s3_keys.clone();
        Ok(Self {
            postgres,
            s3,
            s3_access_key: keys
                .as_ref()
                .map(|keys| keys.0.clone())
                .or_else(|| text.access_key.map(str::to_owned)),
            s3_secret_key: keys.map(|keys| keys.1),
        })
    }

    /// The image of the database.
    #[must_use]
    pub fn postgres_image(&self) -> &str {
        &self.postgres.image
    }

    /// The image of the object store.
    #[must_use]
    pub fn s3_image(&self) -> &str {
        &self.s3.image
    }
}

/// The official Postgres and MinIO.
impl Default for Settings {
    fn default() -> Self {
        Self::new(&Overrides::default()).expect("the presets are good: a test reads them all")
    }
}

fn server(said: &ServerOverrides, preset: &ServerSettings) -> Result<ServerSettings, SettingsError> {
    let settings = ServerSettings {
        image: said.image.clone().unwrap_or_else(|| preset.image.clone()),
        command: said.command.as_deref().map_or_else(|| preset.command.clone(), words),
        env: said.env.as_deref().map_or_else(|| Ok(preset.env.clone()), pairs)?,
        port: said.port.unwrap_or(preset.port),
        ready_text: said.ready_text.clone().or_else(|| preset.ready_text.clone()),
        ready_deadline: preset.ready_deadline,
    };
    if settings.image.is_empty() || settings.image.contains(char::is_whitespace) {
        return Err(SettingsError::Image(settings.image));
    }
    if settings.command.iter().any(|word| word.contains("{secret_key}")) {
        return Err(SettingsError::SecretInCommand);
    }
    Ok(settings)
}

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let pair = |word: &str| {
        let (name, value) = word.split_once('=').filter(|(name, _)| !name.is_empty())?;
        Some((name.to_owned(), value.to_owned()))
    };
    // Only the name is told: the rest may be a secret.
    let bad = |word: &str| SettingsError::Env(word.split('=').next().unwrap_or_default().to_owned());
    text.split_ascii_whitespace().map(|word| pair(word).ok_or_else(|| bad(word))).collect()
}

/// What the placeholders of a container's settings stand for.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) access_key: String,
    pub(super) secret_key: Secret,
}

impl Keys {
    /// The password of a Postgres.
    pub(super) fn postgres() -> Self {
        Self { access_key: POSTGRES_NAME.to_owned(), secret_key: Secret::generate() }
    }

    /// Those that were given, or new ones.
    pub(super) fn s3(settings: &Settings) -> Self {
        let access_key = settings.s3_access_key.clone();
        let secret_key = settings.s3_secret_key.clone();
        Self {
            access_key: access_key.unwrap_or_else(new_access_key),
            secret_key: secret_key.unwrap_or_else(Secret::generate),
        }
    }

    /// The text with its placeholders filled in.
    pub(super) fn fill(&self, text: &str) -> String {
        text.replace("{user}", POSTGRES_NAME)
            .replace("{bucket}", BUCKET)
            .replace("{access_key}", &self.access_key)
            .replace("{secret_key}", &self.secret_key.0)
    }
}

/// 20 letters and digits, as AWS' own access keys have.
fn new_access_key() -> String {
    let random = uuid::Uuid::new_v4().simple().to_string().to_uppercase();
    format!("MIPRO{}", random.get(..15).unwrap_or(&random))
}
