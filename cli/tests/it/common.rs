//! Starts the binary's roles and speaks to them as clients do.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mipro_telemetry::clock;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The org of [`KEY`].
pub(crate) const ORG: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const KEY: &str = "key-of-the-first-org";
/// Another org's key.
pub(crate) const OTHER_KEY: &str = "key-of-the-other-org";
const KEYS: &str = "key-of-the-first-org:11111111-1111-4111-8111-111111111111,key-of-the-other-org:22222222-2222-4222-8222-222222222222";
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A role of the binary, running as a child process; killed when dropped.
pub(crate) struct Role {
    pub(crate) child: Child,
    pub(crate) url: String,
    stderr: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

/// A role that ended before it was ready.
#[derive(Debug)]
pub(crate) struct Dead {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

fn command(args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mipro"));
    command.args(args).env_remove("MIPRO_API_KEYS").env_remove("NO_COLOR");
    command.envs(env.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the binary to its end: status, stdout, stderr.
pub(crate) fn run(args: &[&str], env: &[(&str, &str)]) -> (ExitStatus, String, String) {
    let output = command(args, env).stdin(Stdio::null()).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status, text(&output.stdout), text(&output.stderr))
}

impl Role {
    /// Starts a role and reads its ready line.
    pub(crate) fn start(args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::try_start(args, env).unwrap_or_else(|dead| panic!("{args:?} {}: {}", dead.status, dead.stderr))
    }

    /// Starts a role that may end before it says that it is ready.
    pub(crate) fn try_start(args: &[&str], env: &[(&str, &str)]) -> Result<Self, Dead> {
        let mut child = command(args, env).spawn().expect("the binary starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        let (pipe, sink) = (child.stderr.take().unwrap(), Arc::clone(&stderr));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut text = sink.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let Some(url) = line.trim().strip_prefix("listening on ") else {
            let status = child.wait().expect("the child can be waited for");
            let _ = reader.join();
            let stderr = format!("{line}{}", stderr.lock().unwrap());
            return Err(Dead { status, stderr });
        };
        Ok(Self { url: url.to_owned(), child, stderr, reader: Some(reader) })
    }

    /// What it has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("the child is ours");
    }

    /// Waits for its end; what is left of stdout after the ready line, and all of stderr.
    pub(crate) fn wait(mut self) -> (ExitStatus, String, String) {
        let deadline = clock::now() + STOP_LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(clock::now() < deadline, "the child did not end: {}", self.stderr.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut rest = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        self.reader.take().unwrap().join().unwrap();
        let stderr = self.stderr.lock().unwrap().clone();
        (status, rest, stderr)
    }

    /// SIGTERM, then [`Role::wait`].
    pub(crate) fn stop(self) -> (ExitStatus, String, String) {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A mock LLM, a task app and a service on SQLite and files, with two orgs' keys.
pub(crate) struct World {
    pub(crate) mock: Role,
    pub(crate) task_app: Role,
    pub(crate) service: Role,
    pub(crate) client: Client,
    pub(crate) dir: TempDir,
    engine: String,
    more: Vec<String>,
}

/// How the cache engine is told to save at every change, as a file beside the flags.
pub(crate) const WRITE_THROUGH: &str = "[cache]\nsave = \"through\"\n";

impl World {
    pub(crate) fn new() -> Self {
        Self::with("actor", &[], "")
    }

    pub(crate) fn engine(engine: &str) -> Self {
        Self::with(engine, &[], "")
    }

    /// With further flags of `serve`, and a configuration file's text.
    pub(crate) fn with(engine: &str, flags: &[&str], config: &str) -> Self {
        let mock = Role::start(&["mock-llm", "--listen", "127.0.0.1:0", "--latency", "none"], &[]);
        let task_app = Role::start(&["task-app", "--listen", "127.0.0.1:0"], &[]);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("mipro.toml"), config).unwrap();
        let more: Vec<String> = flags.iter().map(|f| (*f).to_owned()).collect();
        let service = serve(&mock.url, engine, &dir, &more);
        let client = Client::new(&service.url, KEY);
        Self { mock, task_app, service, client, dir, engine: engine.to_owned(), more }
    }

    /// Starts the service again on the same data. The one before must have ended.
    pub(crate) fn restart(&mut self) {
        self.service = serve(&self.mock.url, &self.engine, &self.dir, &self.more);
        self.client = Client::new(&self.service.url, KEY);
    }

    /// [`World::restart`] with further environment variables.
    pub(crate) fn restart_with(&mut self, env: &[(&str, &str)]) {
        self.service = serve_with(&self.mock.url, &self.engine, &self.dir, &self.more, env);
        self.client = Client::new(&self.service.url, KEY);
    }

    /// SIGTERM, wait, start again.
    pub(crate) fn bounce(&mut self) {
        let stopped =
            std::mem::replace(&mut self.service, Role::start(&["task-app", "--listen", "127.0.0.1:0"], &[]));
        let (status, _, stderr) = stopped.stop();
        assert!(status.success(), "{status}: {stderr}");
        self.restart();
    }

    /// Creates a job for the task app's own prompt.
    pub(crate) async fn job(&self) -> Job {
        let prompt = self.initial_prompt().await;
        self.client.create(&job_body(&prompt, &self.task_app.url)).await
    }

    pub(crate) async fn initial_prompt(&self) -> Value {
        let info: Value =
            reqwest::get(format!("{}/info", self.task_app.url)).await.unwrap().json().await.unwrap();
        info["initial_prompt"].clone()
    }

    /// One rollout through the task app.
    pub(crate) async fn rollout(&self, job: &Job, rollout_id: &str, seed: u64) -> Value {
        let body = json!({
            "trace_correlation_id": rollout_id,
            "env": {"seed": seed, "config": {"seed": seed, "split": "train"}},
            "policy": {"config": {"model": "gpt-4.1-nano",
                                  "inference_url": format!("{}/{rollout_id}/chat/completions", job.proxy_url)}}
        });
        let answer = reqwest::Client::new()
            .post(format!("{}/rollout", self.task_app.url))
            .json(&body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }
}

fn serve(upstream: &str, engine: &str, dir: &TempDir, more: &[String]) -> Role {
    serve_with(upstream, engine, dir, more, &[])
}

fn serve_with(upstream: &str, engine: &str, dir: &TempDir, more: &[String], env: &[(&str, &str)]) -> Role {
    let path = dir.path();
    let (config, data) = (path.join("mipro.toml"), path.join("data"));
    let upstream = format!("{upstream}/v1");
    let mut args = vec!["serve", "--listen", "127.0.0.1:0", "--engine", engine];
    if !more.iter().any(|flag| flag == "--upstream") {
        args.extend(["--upstream", upstream.as_str()]);
    }
    args.extend(["--config", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap()]);
    args.extend(more.iter().map(String::as_str));
    Role::start(&args, &[&[("MIPRO_API_KEYS", KEYS)], env].concat())
}

/// A system as its client knows it.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) job_id: String,
    pub(crate) system_id: String,
    pub(crate) proxy_url: String,
}

/// What a client sends to make a job.
pub(crate) fn job_body(prompt: &Value, task_app_url: &str) -> Value {
    json!({"algorithm": "mipro", "config_body": {"prompt_learning": {
        "algorithm": "mipro", "task_app_id": "banking77", "task_app_url": task_app_url,
        "initial_prompt": prompt,
        "policy": {"model": "gpt-4.1-nano", "provider": "openai", "inference_mode": "synth_hosted",
                   "temperature": 0.0, "max_completion_tokens": 256},
        "mipro": {"mode": "online", "bootstrap_train_seeds": [0, 1, 2], "val_seeds": [50, 51],
                  "online_proposer_mode": "inline", "online_proposer_min_rollouts": 20}}}})
}

/// A prompt small enough to read in a test.
pub(crate) fn small_prompt() -> Value {
    json!({"id": "p", "name": "P", "messages": [
        {"role": "system", "order": 0, "pattern": "Say what is asked."},
        {"role": "user", "order": 1, "pattern": "Question: {query} Choices: {choices}"}],
        "wildcards": {"query": "REQUIRED", "choices": "OPTIONAL"}})
}

/// A client of the service, with one org's key.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    key: String,
}

/// Status and JSON body.
pub(crate) type Answer = (StatusCode, Value);

impl Client {
    pub(crate) fn new(base: &str, key: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(120)).build().unwrap();
        Self { http, base: base.to_owned(), key: key.to_owned() }
    }

    /// The same service as seen by another key's owner.
    pub(crate) fn as_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, path).json(body)).await
    }

    pub(crate) async fn create(&self, body: &Value) -> Job {
        let (status, made) = self.post("/api/prompt-learning/online/jobs", body).await;
        assert_eq!(status, 200, "{made}");
        let job_id = made["job_id"].as_str().unwrap().to_owned();
        let (status, job) =
            self.get(&format!("/api/prompt-learning/online/jobs/{job_id}?include_metadata=true")).await;
        assert_eq!(status, 200, "{job}");
        let text = |name: &str| job["metadata"][name].as_str().unwrap().to_owned();
        Job { job_id, system_id: text("mipro_system_id"), proxy_url: text("mipro_proxy_url") }
    }

    /// A job with [`small_prompt`].
    pub(crate) async fn small_job(&self) -> Job {
        self.create(&job_body(&small_prompt(), "http://127.0.0.1:9")).await
    }

    pub(crate) fn system_path(job: &Job, rest: &str) -> String {
        format!("/api/prompt-learning/online/mipro/systems/{}/{rest}", job.system_id)
    }

    pub(crate) async fn status(&self, job: &Job, body: Value) -> Answer {
        self.post(&Self::system_path(job, "status"), &body).await
    }

    pub(crate) async fn add(&self, job: &Job, body: Value) -> Answer {
        self.post(&Self::system_path(job, "candidates"), &body).await
    }

    pub(crate) async fn state(&self, job: &Job) -> Value {
        let (status, state) = self.get(&Self::system_path(job, "state")).await;
        assert_eq!(status, 200, "{state}");
        state
    }

    /// A chat completion through the proxy, built from [`small_prompt`].
    pub(crate) async fn ask(&self, job: &Job, rollout_id: &str) -> reqwest::Response {
        let body = chat("Say what is asked.", "Question: why? Choices: a, b");
        self.http
            .post(format!("{}/{rollout_id}/chat/completions", job.proxy_url))
            .json(&body)
            .send()
            .await
            .unwrap()
    }
}

/// A chat-completions request of a system and a user message.
pub(crate) fn chat(system: &str, user: &str) -> Value {
    json!({"model": "gpt-4.1-nano", "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}]})
}

pub(crate) async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = response.status();
    let bytes = response.bytes().await.unwrap();
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into()));
    (status, body)
}

/// The message of an error in the one shape there is; panics on any other.
pub(crate) fn error_message(body: &Value) -> String {
    let error = &body["error"];
    for field in ["message", "type"] {
        assert!(error[field].is_string(), "no error.{field} in {body}");
    }
    assert!(
        error.get("param").is_some() && error.get("code").is_some(),
        "param or code is missing in {body}"
    );
    error["message"].as_str().unwrap().to_owned()
}
