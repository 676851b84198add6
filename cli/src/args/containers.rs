use clap::Args;
use mipro_testbed::Secret;
use mipro_testbed::containers::{Overrides, S3Preset, ServerOverrides, Settings, SettingsError};

/// How `--stack containers` starts its servers. Every setting is a variable as well, and what is empty is as the preset has
/// it. A server with keys of its own takes them from MIPRO_S3_ACCESS_KEY and MIPRO_S3_SECRET_KEY; command lines can be read
/// by everyone, so there are no flags for those.
#[derive(Debug, Args)]
#[command(next_help_heading = "Containers (scripts/build-images makes images where there is no registry)")]
pub(crate) struct ContainerArgs {
    /// Image with Postgres that takes POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB [default: postgres:17]
    #[arg(long, value_name = "NAME:TAG", env = "MIPRO_POSTGRES_IMAGE")]
    postgres_image: Option<String>,

    /// Its command, words separated by blanks
    #[arg(long, value_name = "WORDS", env = "MIPRO_POSTGRES_COMMAND", allow_hyphen_values = true)]
    postgres_command: Option<String>,

    /// Its environment; {user} and {secret_key} are replaced
    #[arg(long, value_name = "NAME=VALUE …", env = "MIPRO_POSTGRES_ENV", hide_env_values = true)]
    postgres_env: Option<String>,

    /// The port it listens on, inside [default: 5432]
    #[arg(long, value_name = "PORT", env = "MIPRO_POSTGRES_PORT")]
    postgres_port: Option<u16>,

    /// What its log must hold before it is asked anything
    #[arg(long, value_name = "TEXT", env = "MIPRO_POSTGRES_READY_TEXT")]
    postgres_ready_text: Option<String>,

    /// minio, seaweedfs, rustfs, mipro: image, command, environment and port [default: by the image's name, else minio]
    #[arg(long, value_name = "NAME", env = "MIPRO_S3_PRESET")]
    s3_preset: Option<String>,

    /// Image with an S3 server [default: the preset's]
    #[arg(long, value_name = "NAME:TAG", env = "MIPRO_S3_IMAGE")]
    s3_image: Option<String>,

    /// Its command, words separated by blanks; {bucket} and {access_key} are replaced
    #[arg(long, value_name = "WORDS", env = "MIPRO_S3_COMMAND", allow_hyphen_values = true)]
    s3_command: Option<String>,

    /// Its environment; {bucket}, {access_key} and {secret_key} are replaced
    #[arg(long, value_name = "NAME=VALUE …", env = "MIPRO_S3_ENV", hide_env_values = true)]
    s3_env: Option<String>,

    /// The port it listens on, inside
    #[arg(long, value_name = "PORT", env = "MIPRO_S3_PORT")]
    s3_port: Option<u16>,

    /// What its log must hold before it is asked anything
    #[arg(long, value_name = "TEXT", env = "MIPRO_S3_READY_TEXT")]
    s3_ready_text: Option<String>,
}

impl ContainerArgs {
    /// The settings these flags, and the variables behind them, make.
    pub(crate) fn settings(&self) -> Result<Settings, SettingsError> {
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let s3_preset = said(&self.s3_preset).map(|name| name.parse::<S3Preset>()).transpose()?;
        let keys = variable("MIPRO_S3_ACCESS_KEY").zip(variable("MIPRO_S3_SECRET_KEY"));
        Settings::new(&Overrides {
            postgres: ServerOverrides {
                image: said(&self.postgres_image),
                command: said(&self.postgres_command),
                env: said(&self.postgres_env),
                port: self.postgres_port,
                ready_text: said(&self.postgres_ready_text),
            },
            s3: ServerOverrides {
                image: said(&self.s3_image),
                command: said(&self.s3_command),
                env: said(&self.s3_env),
                port: self.s3_port,
                ready_text: said(&self.s3_ready_text),
            },
            s3_preset,
            s3_keys: keys.map(|(access_key, secret_key)| (access_key, Secret::new(secret_key))),
        })
    }

    /// The images, for the report's command line; nothing else of this is told there.
    pub(crate) fn images(&self) -> Vec<String> {
        let flag =
            |name: &str, image: &Option<String>| image.as_ref().map(|image| format!("--{name} {image}"));
        [flag("postgres-image", &self.postgres_image), flag("s3-image", &self.s3_image)]
            .into_iter()
            .flatten()
            .collect()
    }
}
