//! Stores that fail on demand and tell what they did, and a small system to drive.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use mipro_service::clock::Contexts;
use mipro_service::engine::{
    self, Access, Engine, EngineError, EngineKind, EngineOptions, Executed, Format, Question, Save,
};
use mipro_service::log::disk::RealDisk;
use mipro_service::log::{EventLog, Level, SegmentLog, SegmentOptions};
use mipro_service::store::{
    self, Blobs, RowMark, StoreError, Stores, SystemRow, SystemTable, TableOptions, WriteRule,
};
use mipro_service::system::{
    CandidateContent, Command, Message, NewCandidate, NewSystem, PatternMessage, Prompt, Status,
    StatusReport, SystemId, SystemSpec,
};
use mipro_telemetry::{Breakdown, Ledger, Operation, Recorders};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as ObjectResult,
};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use crate::hand_log::{HandLog, hand_log};

/// The org of every system made here.
pub(crate) const ORG: Uuid = Uuid::from_u128(0xa);
/// An org that owns nothing.
pub(crate) const STRANGER: Uuid = Uuid::from_u128(0xb);

/// Objects in memory, with a switch to fail them, and counters one can wait for.
#[derive(Debug)]
pub(crate) struct FlakyObjects {
    inner: InMemory,
    pub(crate) down: AtomicBool,
    pub(crate) gets: AtomicU64,
    pub(crate) lists: AtomicU64,
    /// How long a get takes, milliseconds.
    get_ms: AtomicU64,
    pub(crate) puts: watch::Sender<u64>,
    pub(crate) failed_puts: watch::Sender<u64>,
    /// Puts wait while it is set.
    hold_puts: watch::Sender<bool>,
    /// Puts that had to wait.
    pub(crate) held_puts: watch::Sender<u64>,
}

impl FlakyObjects {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            down: AtomicBool::new(false),
            gets: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            get_ms: AtomicU64::new(0),
            puts: watch::Sender::new(0),
            failed_puts: watch::Sender::new(0),
            hold_puts: watch::Sender::new(false),
            held_puts: watch::Sender::new(0),
        })
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn slow_get(&self, takes: Duration) {
        self.get_ms.store(takes.as_millis().try_into().unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn set_hold_puts(&self, hold: bool) {
        self.hold_puts.send_replace(hold);
    }

    async fn released(&self) {
        let mut hold = self.hold_puts.subscribe();
        if *hold.borrow_and_update() {
            self.held_puts.send_modify(|n| *n += 1);
            hold.wait_for(|hold| !hold).await.expect("the switch is ours");
        }
    }

    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.gets.load(Ordering::SeqCst), *self.puts.borrow())
    }

    fn check(&self) -> ObjectResult<()> {
        if self.down.load(Ordering::SeqCst) {
            let source = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
            return Err(object_store::Error::Generic { store: "flaky", source: Box::new(source) });
        }
        Ok(())
    }
}

impl fmt::Display for FlakyObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlakyObjects")
    }
}

#[async_trait]
impl ObjectStore for FlakyObjects {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> ObjectResult<PutResult> {
        self.released().await;
        if let Err(error) = self.check() {
            self.failed_puts.send_modify(|n| *n += 1);
            return Err(error);
        }
        let result = self.inner.put_opts(at, payload, options).await;
        self.puts.send_modify(|n| *n += 1);
        result
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> ObjectResult<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> ObjectResult<GetResult> {
        self.check()?;
        self.gets.fetch_add(1, Ordering::SeqCst);
        let takes_ms = self.get_ms.load(Ordering::SeqCst);
        if takes_ms > 0 {
            tokio::time::sleep(Duration::from_millis(takes_ms)).await;
        }
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, ObjectResult<Path>>,
    ) -> BoxStream<'static, ObjectResult<Path>> {
        self.inner.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, ObjectResult<ObjectMeta>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        match self.check() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures_util::stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> ObjectResult<ListResult> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.check()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> ObjectResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A table with switches to fail it.
#[derive(Debug)]
pub(crate) struct FlakyTable {
    inner: Arc<dyn SystemTable>,
    /// Refuses everything.
    pub(crate) down: AtomicBool,
    /// Does the next write and then says that it failed.
    pub(crate) lose_answer: AtomicBool,
    /// Claims that were made.
    pub(crate) claims: watch::Sender<u64>,
}

impl FlakyTable {
    pub(crate) fn over(inner: Arc<dyn SystemTable>) -> Arc<Self> {
        let (down, lose_answer) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { inner, down, lose_answer, claims: watch::Sender::new(0) })
    }

    fn check(&self, down: bool) -> Result<(), StoreError> {
        if down {
            return Err(StoreError::Unavailable {
                what: "the database (flaky)",
                reason: "told so".to_owned(),
            });
        }
        Ok(())
    }
}

#[async_trait]
impl SystemTable for FlakyTable {
    async fn get(&self, system_id: Uuid, ledger: &Ledger) -> Result<Option<SystemRow>, StoreError> {
        self.check(self.down.load(Ordering::SeqCst))?;
        self.inner.get(system_id, ledger).await
    }

    async fn upsert(&self, row: &SystemRow, rule: WriteRule, ledger: &Ledger) -> Result<bool, StoreError> {
        self.check(self.down.load(Ordering::SeqCst))?;
        let written = self.inner.upsert(row, rule, ledger).await?;
        self.check(self.lose_answer.swap(false, Ordering::SeqCst))?;
        Ok(written)
    }

    async fn claim(
        &self,
        system_id: Uuid,
        seen: RowMark,
        epoch: u64,
        by: Uuid,
        ledger: &Ledger,
    ) -> Result<bool, StoreError> {
        self.check(self.down.load(Ordering::SeqCst))?;
        self.claims.send_modify(|claims| *claims += 1);
        let claimed = self.inner.claim(system_id, seen, epoch, by, ledger).await?;
        self.check(self.lose_answer.swap(false, Ordering::SeqCst))?;
        Ok(claimed)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.check(self.down.load(Ordering::SeqCst))?;
        self.inner.ping().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }

    fn kind(&self) -> &'static str {
        "flaky"
    }
}

/// Stores that outlive the engines over them.
pub(crate) struct Rig {
    pub(crate) objects: Arc<FlakyObjects>,
    pub(crate) table: Arc<FlakyTable>,
    pub(crate) recorders: Recorders,
    logs: tempfile::TempDir,
    opened: Mutex<Vec<Arc<SegmentLog>>>,
}

impl Rig {
    pub(crate) async fn sqlite() -> Self {
        Self::table(&TableOptions::default()).await
    }

    /// One over `options`.
    pub(crate) async fn table(options: &TableOptions) -> Self {
        Self::over(store::open_table(options).await.unwrap())
    }

    fn over(table: Arc<dyn SystemTable>) -> Self {
        Self {
            objects: FlakyObjects::new(),
            table: FlakyTable::over(table),
            recorders: Recorders::new(),
            logs: tempfile::tempdir().unwrap(),
            opened: Mutex::default(),
        }
    }

    pub(crate) fn stores(&self) -> Stores {
        let blobs = Blobs::over(self.objects.clone(), Duration::from_secs(5));
        Stores { table: self.table.clone(), blobs }
    }

    pub(crate) fn engine(&self, options: &EngineOptions) -> Arc<dyn Engine> {
        engine::build(options, self.stores(), self.recorders.clone())
    }

    /// An engine whose promise is `level`; at `os` and `disk` over this rig's log of files, which outlives the engines.
    pub(crate) fn engine_at(&self, options: &EngineOptions, level: Level) -> Arc<dyn Engine> {
        if level == Level::Memory {
            return self.engine(options);
        }
        let mut opened = self.opened.lock().unwrap();
        let log = opened.iter().find(|log| log.level() == level).cloned().unwrap_or_else(|| {
            let at = SegmentOptions::at(self.logs.path().join(level.name()));
            let at = SegmentOptions { level, segment_bytes: 1 << 20, ..at };
            let (log, _) = SegmentLog::open(at, Arc::new(RealDisk)).unwrap();
            opened.push(Arc::clone(&log));
            log
        });
        engine::build_with_log(options, self.stores(), self.recorders.clone(), log)
    }
}

/// A Postgres server of this test's own.
pub(crate) struct Postgres {
    url: String,
    stop: CancellationToken,
    keeper: JoinHandle<Result<(), mipro_testbed::postgres::Error>>,
}

impl Postgres {
    /// Starts one; `None`, said on stderr, where this machine has none. In CI it must have one.
    pub(crate) async fn start() -> Option<Self> {
        let stop = CancellationToken::new();
        let (told, ready) = oneshot::channel();
        let tell = |ready: mipro_testbed::postgres::Ready| told.send(ready.url).unwrap();
        let options = mipro_testbed::postgres::Options::default();
        let keeper = tokio::spawn(mipro_testbed::postgres::run(options, tell, stop.clone()));
        if let Ok(url) = ready.await {
            return Some(Self { url, stop, keeper });
        }
        let why = keeper.await.unwrap().unwrap_err();
        assert!(std::env::var("CI").as_deref() != Ok("true"), "in CI nothing is skipped: {why}");
        say(&format!("skipped: no Postgres ({why})"));
        None
    }

    pub(crate) fn options(&self) -> TableOptions {
        TableOptions { url: self.url.clone(), ..TableOptions::default() }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.keeper.await.unwrap().unwrap();
    }
}

pub(crate) fn say(line: &str) {
    use std::io::Write;
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}

/// Every engine, each with its name, and saving behind only when told to.
pub(crate) fn all_engines() -> Vec<(&'static str, EngineOptions)> {
    vec![
        ("blob", options(EngineKind::Blob)),
        ("write-through", write_through()),
        ("write-back", write_back()),
        ("actor", options(EngineKind::Actor)),
    ]
}

/// [`all_engines`], and the actor over a log of files.
pub(crate) fn all_ways() -> Vec<(&'static str, EngineOptions, Level)> {
    let mut ways: Vec<_> =
        all_engines().into_iter().map(|(name, options)| (name, options, Level::Memory)).collect();
    let mut documents = options(EngineKind::Actor);
    documents.actor.format = Format::Document;
    ways.push(("actor at os", options(EngineKind::Actor), Level::Os));
    ways.push(("actor at disk", options(EngineKind::Actor), Level::Disk));
    ways.push(("actor at disk, documents", documents, Level::Disk));
    ways
}

pub(crate) fn options(kind: EngineKind) -> EngineOptions {
    let mut options = EngineOptions::new(kind, Contexts::frozen(7, 1_700_000_000_000_000));
    options.actor.shards = 4;
    options
}

pub(crate) fn write_through() -> EngineOptions {
    let mut options = options(EngineKind::Cache);
    options.cache.save = Save::Through;
    options
}

pub(crate) fn write_back() -> EngineOptions {
    options(EngineKind::Cache)
}

pub(crate) fn new_system() -> NewSystem {
    let message = |role: &str, order, pattern: &str| PatternMessage {
        role: role.to_owned(),
        order,
        pattern: pattern.to_owned(),
    };
    let messages = vec![message("system", 0, "Name the intent."), message("user", 1, "Query: {query}")];
    let prompt = Prompt::new(
        "p".to_owned(),
        "P".to_owned(),
        messages,
        [("query".to_owned(), "REQUIRED".to_owned())].into(),
    );
    let spec = SystemSpec { prompt: Arc::new(prompt), model: "m".to_owned(), ..SystemSpec::default() };
    NewSystem { system_id: Uuid::new_v4(), org_id: ORG, name: None, spec }
}

pub(crate) fn candidate(instruction: &str) -> Command {
    let content = CandidateContent {
        deltas: json!({ "instruction_text": instruction }),
        ..CandidateContent::default()
    };
    Command::AddCandidate(NewCandidate { candidate_id: None, content, params: [].into() })
}

pub(crate) fn start(rollout: &str) -> Command {
    let message = |role: &str, text: &str| Message { role: role.to_owned(), text: Some(text.to_owned()) };
    let messages = [message("system", "Name the intent."), message("user", "Query: where is my card")];
    Command::StartRollout { rollout_id: rollout.to_owned(), messages: messages.into() }
}

/// A rollout that never went through the proxy, reported in one call.
pub(crate) fn report(rollout: &str, reward: f64) -> Command {
    Command::Report(StatusReport {
        rollout_id: rollout.to_owned(),
        status: Status::RewardDone,
        reward: Some(reward),
        candidate_id: Some("baseline".to_owned()),
    })
}

/// A rollout that went through the proxy, reported in one call.
pub(crate) fn finish(rollout: &str, reward: f64) -> Command {
    Command::Report(StatusReport {
        rollout_id: rollout.to_owned(),
        status: Status::RewardDone,
        reward: Some(reward),
        candidate_id: None,
    })
}

/// One call with everything a caller does: the command, then its gate. Gives the call's times, too.
pub(crate) async fn call(
    engine: &dyn Engine,
    system: SystemId,
    command: Command,
) -> (Result<Executed, EngineError>, Breakdown) {
    let ledger = Ledger::start(Operation::Unknown);
    let mut result = engine.execute(system, Access::Org(ORG), command, &ledger).await;
    if let Ok(executed) = result {
        let Executed { reply, gate } = executed;
        result = gate.wait(&ledger).await.map(|()| Executed { reply, gate: engine::Gate::open() });
    }
    (result, ledger.finish())
}

pub(crate) async fn run(
    engine: &dyn Engine,
    system: SystemId,
    command: Command,
) -> Result<Executed, EngineError> {
    call(engine, system, command).await.0
}

pub(crate) async fn create(engine: &dyn Engine, new: &NewSystem) {
    let ledger = Ledger::start(Operation::CreateJob);
    let created = engine.create(new.clone(), &ledger).await.unwrap();
    created.gate.wait(&ledger).await.unwrap();
}

pub(crate) async fn ask(
    engine: &dyn Engine,
    system: SystemId,
    question: Question,
) -> Result<Value, EngineError> {
    let ledger = Ledger::start(Operation::GetState);
    let answer = engine.inspect(system, Access::Org(ORG), question, &ledger).await?;
    answer.gate.wait(&ledger).await?;
    Ok(answer.body)
}

pub(crate) async fn state(engine: &dyn Engine, system: SystemId) -> Value {
    ask(engine, system, Question::State).await.unwrap()
}

pub(crate) async fn rewards(engine: &dyn Engine, system: SystemId) -> u64 {
    state(engine, system).await["reward_count"].as_u64().unwrap()
}

/// Waits until a counter has reached `least`.
pub(crate) async fn reaches(counter: &watch::Sender<u64>, least: u64) {
    let wait = async { counter.subscribe().wait_for(|n| *n >= least).await.map(drop) };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it takes far less").unwrap();
}

/// Polls a future at most `times` times, leaving the thread to others in between.
pub(crate) async fn poll_times<F: Future>(future: F, times: u32) -> Option<F::Output> {
    let mut future = Box::pin(future);
    for _ in 0..times {
        if let std::task::Poll::Ready(output) = futures_util::poll!(&mut future) {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}
