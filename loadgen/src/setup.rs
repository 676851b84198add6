//! Systems to drive: made through the service's own routes, from what the task app tells of itself.

use std::fmt;
use std::time::Duration;

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::account::Failure;
use crate::client::{Answer, Client};
use crate::error::Error;
use crate::options::Options;

/// How long a new job may take to tell its proxy URL.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// A system to drive.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct System {
    /// Its id.
    pub(crate) id: Uuid,
    /// Where the task app sends its chat completions; a capability, so not for logs.
    pub(crate) proxy_url: Url,
}

impl fmt::Debug for System {
    /// Shows nothing: both fields let their holder use the system.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").finish_non_exhaustive()
    }
}

/// What the task app tells in `GET /info`.
#[derive(Debug, Deserialize)]
struct Info {
    initial_prompt: Value,
    #[serde(default)]
    task_app_id: Option<String>,
    #[serde(default)]
    example_candidates: Vec<Value>,
}

#[derive(Deserialize)]
struct Job {
    job_id: String,
}

#[derive(Deserialize)]
struct JobState {
    #[serde(default)]
    status: String,
    #[serde(default)]
    metadata: Option<JobMetadata>,
}

#[derive(Default, Deserialize)]
struct JobMetadata {
    mipro_system_id: Option<Uuid>,
    mipro_proxy_url: Option<String>,
}

/// Gives the systems of a run: those named in the options, or new ones with the task app's example candidates. Without a
/// target there are none.
///
/// # Errors
/// When the task app or the service cannot be reached, refuses, or answers otherwise than the contract says.
pub async fn prepare(options: &Options) -> Result<Vec<Uuid>, Error> {
    Ok(systems(options).await?.into_iter().map(|s| s.id).collect())
}

/// As [`prepare`], with the proxy URLs.
pub(crate) async fn systems(options: &Options) -> Result<Vec<System>, Error> {
    options.check()?;
    let Some(target) = &options.target else { return Ok(Vec::new()) };
    if !options.system_ids.is_empty() {
        return Ok(options.system_ids.iter().map(|id| named(options, target, *id)).collect());
    }
    let setup = Setup { options, target, client: Client::new(options.timeout, 4)? };
    let info = setup.info().await?;
    let mut systems = Vec::with_capacity(options.systems as usize);
    for number in 0..options.systems {
        let system = setup.create(&info, number).await?;
        for candidate in &info.example_candidates {
            setup.add_candidate(&system, candidate).await?;
        }
        systems.push(system);
    }
    Ok(systems)
}

/// A system that exists already: the contract says where its proxy is.
pub(crate) fn named(options: &Options, target: &Url, id: Uuid) -> System {
    let base = options.proxy_base.as_ref().unwrap_or(target);
    System { id, proxy_url: join(base, &format!("api/mipro/v1/{id}")) }
}

struct Setup<'a> {
    options: &'a Options,
    target: &'a Url,
    client: Client,
}

impl Setup<'_> {
    async fn info(&self) -> Result<Info, Error> {
        let url = join(&self.options.task_app, "info");
        let mut request = self.client.get(url);
        if let Some(key) = &self.options.task_app_key {
            request = request.header("x-api-key", key);
        }
        let action = "read the task app's /info";
        let answer = self.client.call(request).await.answer.and_then(Answer::success);
        answer.and_then(|a| a.json()).map_err(|failure| Error::Setup { action, failure })
    }

    async fn create(&self, info: &Info, number: u32) -> Result<System, Error> {
        let url = join(self.target, "api/prompt-learning/online/jobs");
        let body = job(self.options, info, number);
        let job: Job = self.json("create a job", self.client.post(url).json(&body)).await?;
        self.ready(&job.job_id).await
    }

    /// Asks until the job tells its proxy URL.
    async fn ready(&self, job_id: &str) -> Result<System, Error> {
        let url = join(self.target, &format!("api/prompt-learning/online/jobs/{job_id}"));
        let mut status = String::new();
        let asking = async {
            loop {
                let asked: JobState = self.json("read the job", self.client.get(url.clone())).await?;
                let metadata = asked.metadata.unwrap_or_default();
                if let (Some(id), Some(proxy_url)) = (metadata.mipro_system_id, metadata.mipro_proxy_url) {
                    let unusable = |_| Failure::invalid("its mipro_proxy_url is no URL");
                    let proxy_url = Url::parse(&proxy_url).map_err(unusable);
                    let proxy_url =
                        proxy_url.map_err(|failure| Error::Setup { action: "use the new job", failure })?;
                    return Ok(System { id, proxy_url });
                }
                status = asked.status;
                if status == "failed" {
                    let failure = Failure::invalid("its status is failed");
                    return Err(Error::Setup { action: "use the new job", failure });
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        let asked = tokio::time::timeout(READY_WITHIN, asking).await;
        asked.unwrap_or(Err(Error::JobNotReady { waited_seconds: READY_WITHIN.as_secs(), status }))
    }

    async fn add_candidate(&self, system: &System, candidate: &Value) -> Result<(), Error> {
        let url = system_url(self.target, system.id, "candidates");
        let _: Value = self.json("add an example candidate", self.client.post(url).json(candidate)).await?;
        Ok(())
    }

    async fn json<T: serde::de::DeserializeOwned>(
        &self,
        action: &'static str,
        request: RequestBuilder,
    ) -> Result<T, Error> {
        let done = self.client.call(authorized(request, self.options)).await;
        let answer = done.answer.and_then(Answer::success).and_then(|a| a.json());
        answer.map_err(|failure| Error::Setup { action, failure })
    }
}

pub(crate) fn authorized(request: RequestBuilder, options: &Options) -> RequestBuilder {
    match &options.api_key {
        Some(key) => request.bearer_auth(key),
        None => request,
    }
}

fn job(options: &Options, info: &Info, number: u32) -> Value {
    let mut mipro = json!({
        "mode": "online",
        "system_name": format!("{}-{}-{number}", options.rollout_prefix, options.seed),
        "bootstrap_train_seeds": [0, 1, 2],
        "val_seeds": [50, 51],
        "online_pool": [0, 1, 2],
        "online_proposer_mode": "inline",
        // The generator brings its own candidates: no proposals.
        "online_proposer_min_rollouts": 1_000_000_000,
    });
    for (name, value) in &options.job_overrides {
        mipro[name] = value.clone();
    }
    json!({
        "algorithm": "mipro",
        "config_body": {"prompt_learning": {
            "algorithm": "mipro",
            "task_app_id": info.task_app_id.as_deref().unwrap_or("banking77"),
            "task_app_url": options.task_app.as_str(),
            "initial_prompt": info.initial_prompt,
            "policy": {
                "model": options.model,
                "provider": "openai",
                "inference_mode": "synth_hosted",
                "temperature": 0.0,
                "max_completion_tokens": 256,
            },
            "env_config": {"split": options.split},
            "mipro": mipro,
        }},
    })
}

/// `…/mipro/systems/<id>/<leaf>`.
pub(crate) fn system_url(target: &Url, id: Uuid, leaf: &str) -> Url {
    join(target, &format!("api/prompt-learning/online/mipro/systems/{id}/{leaf}"))
}

/// A path below a base, whether or not the base ends in a slash.
pub(crate) fn join(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let below = format!("{}/{path}", base.path().trim_end_matches('/'));
    url.set_path(&below);
    url
}
