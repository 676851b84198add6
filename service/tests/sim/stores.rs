//! The systems table and the object store of a history: in memory, outliving the processes, with everything that goes wrong
//! between a process and its stores.
//!
//! A call takes a while, is applied at one instant, and its answer takes a while again. It may be refused, it may be
//! applied and its answer lost, it may take longer than anybody waits. A call whose caller is gone (it timed out, or the
//! process died) before it was applied is still on the wire: it may arrive later, also in the time of the next process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use mipro_service::store::{PreviousState, RowMark, StoreError, SystemRow, SystemTable, WriteRule};
use mipro_telemetry::Ledger;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as ObjectResult,
};
use uuid::Uuid;

use crate::scene::{ARCHIVE, STORES, Scene, Trouble, lock};

/// Something that is still on the wire.
type Parcel = Box<dyn FnOnce() + Send>;

/// What is on the wire with nobody waiting for it, and when it arrives.
#[derive(Default)]
pub(crate) struct Wire {
    parcels: Mutex<Vec<(u64, Parcel)>>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Wire {
    /// Delivers what is due.
    pub(crate) fn deliver(&self, now_ms: u64) {
        let mut parcels = lock(&self.parcels);
        let (due, rest): (Vec<_>, Vec<_>) = parcels.drain(..).partition(|(at, _)| *at <= now_ms);
        *parcels = rest;
        drop(parcels);
        due.into_iter().for_each(|(_, parcel)| parcel());
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    Refused,
    /// Applied; the caller is told that it failed.
    AnswerLost,
}

/// How a call fares.
#[derive(Debug, Clone, Copy)]
struct Travel {
    fate: Fate,
    there_ms: u64,
    back_ms: u64,
    /// If its caller goes away meanwhile: when it arrives all the same.
    late_ms: Option<u64>,
}

/// A call on its way. Dropping it leaves it on the wire, or loses it.
struct Underway {
    parcel: Option<Parcel>,
    wire: Arc<Wire>,
    scene: Arc<Scene>,
    late_ms: Option<u64>,
}

impl Underway {
    fn arrive(mut self) {
        if let Some(parcel) = self.parcel.take() {
            parcel();
        }
    }

    fn lose(mut self) {
        self.parcel = None;
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if let (Some(parcel), Some(late_ms)) = (self.parcel.take(), self.late_ms) {
            let at = self.scene.now_ms() + late_ms;
            self.scene.saw("late arrival", 1);
            lock(&self.wire.parcels).push((at, parcel));
        }
    }
}

/// Both stores' common part.
#[derive(Debug)]
struct Travels {
    scene: Arc<Scene>,
    wire: Arc<Wire>,
    trouble: Trouble,
}

impl Travels {
    fn new(scene: &Arc<Scene>, wire: &Arc<Wire>, trouble: Trouble) -> Self {
        Self { scene: Arc::clone(scene), wire: Arc::clone(wire), trouble }
    }

    /// Calls that begin in one instant for the same thing fare alike: which of them came first is chance.
    fn begin(&self, lane: u64, what: &str) -> Travel {
        let mut dice = self.scene.dice(what, &[lane, self.scene.now_ms()]);
        let faults = if self.scene.is_calm() { 0 } else { self.scene.weather.store_faults };
        let fate = match dice.chance(faults) {
            _ if self.scene.has(self.trouble) => Fate::Refused,
            true if dice.chance(500) => Fate::AnswerLost,
            true => Fate::Refused,
            false => Fate::Well,
        };
        let slow = dice.chance(faults / 4);
        let (there, back) = (dice.between(1, 30), dice.between(1, 30));
        let there_ms = if slow { dice.between(200, 1_200) } else { there };
        let late_ms = dice.chance(600).then(|| dice.below(2_000));
        Travel { fate, there_ms, back_ms: back, late_ms }
    }

    /// Makes a call. `apply` runs at most once, now or later or never; `None`: the call failed.
    async fn call<R: Send + 'static>(
        &self,
        lane: u64,
        what: String,
        apply: impl FnOnce() -> R + Send + 'static,
    ) -> Option<R> {
        let travel = self.begin(lane, &what);
        let result = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&result);
        let scene = Arc::clone(&self.scene);
        let parcel: Parcel = Box::new(move || {
            scene.note(lane, || what);
            *lock(&slot) = Some(apply());
        });
        let underway = Underway {
            parcel: Some(parcel),
            wire: Arc::clone(&self.wire),
            scene: Arc::clone(&self.scene),
            late_ms: travel.late_ms,
        };
        self.scene.turn(lane, travel.there_ms).await;
        if travel.fate == Fate::Refused {
            underway.lose();
            return None;
        }
        underway.arrive();
        self.scene.turn(lane, travel.back_ms).await;
        let result = lock(&result).take();
        self.scene.saw("answer lost", u64::from(travel.fate == Fate::AnswerLost));
        result.filter(|_| travel.fate == Fate::Well)
    }
}

/// Which lane a system's calls take.
pub(crate) fn system_lane(systems: &[Uuid], system: Uuid) -> u64 {
    systems.iter().position(|known| *known == system).map_or(ARCHIVE, |index| STORES + index as u64)
}

/// The systems table.
#[derive(Debug)]
pub(crate) struct SimTable {
    travels: Travels,
    pub(crate) rows: Arc<Rows>,
    systems: Vec<Uuid>,
}

/// The table's content, and every pointer there ever was.
#[derive(Debug)]
pub(crate) struct Rows {
    scene: Arc<Scene>,
    now: Mutex<BTreeMap<Uuid, SystemRow>>,
    /// Every row there ever was, with the object it named.
    pub(crate) moves: Mutex<Vec<(SystemRow, Bytes)>>,
    objects: Arc<InMemory>,
}

impl Rows {
    pub(crate) fn get(&self, system: Uuid) -> Option<SystemRow> {
        lock(&self.now).get(&system).cloned()
    }

    /// As the store's own statement does it.
    fn upsert(&self, lane: u64, mut row: SystemRow, rule: WriteRule) -> bool {
        let mut now = lock(&self.now);
        let held = now.get(&row.system_id);
        let taken = match (held, rule) {
            (Some(held), WriteRule::Advance) => held.epoch <= row.epoch && held.version < row.version,
            _ => true,
        };
        self.scene.note(lane, || format!("row v{} e{} {rule:?} taken={taken}", row.version, row.epoch));
        if taken {
            row.updated_at = Some(self.scene.now_ms().to_string());
            row.previous = held.and_then(previous).filter(|_| rule == WriteRule::Advance);
            row.claimed_by = held.map_or(row.claimed_by, |held| held.claimed_by);
            self.check(held, &row);
            now.insert(row.system_id, row);
        }
        taken
    }

    fn claim(&self, lane: u64, system: Uuid, seen: RowMark, (epoch, by): (u64, Uuid)) -> bool {
        let mut now = lock(&self.now);
        let row = now.get_mut(&system).filter(|row| row.mark() == seen && row.epoch < epoch);
        let claimed = row.map(|row| claim(row, epoch, by)).is_some();
        self.scene.note(lane, || format!("claim e{epoch} of {seen:?} {claimed}"));
        self.scene.saw("claimed", u64::from(claimed));
        self.scene.saw("claim refused", u64::from(!claimed));
        claimed
    }

    fn check(&self, held: Option<&SystemRow>, row: &SystemRow) {
        let (version, epoch) = (row.version, row.epoch);
        match row.state_ref.as_deref().and_then(|key| content(&self.objects, key)) {
            Some(object) => lock(&self.moves).push((row.clone(), object)),
            None => self.scene.violated(format!("the pointer names a missing object, version {version}")),
        }
        if held.is_some_and(|held| held.epoch > epoch || held.version > version) {
            self.scene.violated(format!("the pointer went back to version {version} of epoch {epoch}"));
        }
    }
}

/// What the statement of the real tables does.
pub(crate) fn claim(row: &mut SystemRow, epoch: u64, by: Uuid) {
    if row.claimed_by.is_some_and(|held| held != by) {
        row.previous = None;
    }
    (row.epoch, row.claimed_by) = (epoch, Some(by));
}

fn previous(held: &SystemRow) -> Option<PreviousState> {
    let SystemRow { state_ref, version, state_bytes, state_checksum, .. } = held.clone();
    let (bytes, checksum) = (state_bytes, state_checksum);
    Some(PreviousState { state_ref: state_ref?, version, bytes, checksum })
}

/// An object's content, without any travel.
pub(crate) fn content(objects: &InMemory, key: &str) -> Option<Bytes> {
    let path = Path::from(key);
    at_once(async { objects.get_opts(&path, GetOptions::default()).await?.bytes().await }).ok()
}

impl SimTable {
    pub(crate) fn new(
        scene: &Arc<Scene>,
        wire: &Arc<Wire>,
        systems: &[Uuid],
        objects: &Arc<InMemory>,
    ) -> Arc<Self> {
        let rows = Rows {
            scene: Arc::clone(scene),
            now: Mutex::default(),
            moves: Mutex::default(),
            objects: Arc::clone(objects),
        };
        let travels = Travels::new(scene, wire, Trouble::TableDown);
        Arc::new(Self { travels, rows: Arc::new(rows), systems: systems.to_vec() })
    }
}

fn table_failed() -> StoreError {
    StoreError::Unavailable { what: "the database", reason: "simulated".to_owned() }
}

#[async_trait]
impl SystemTable for SimTable {
    async fn get(&self, system_id: Uuid, _ledger: &Ledger) -> Result<Option<SystemRow>, StoreError> {
        let rows = Arc::clone(&self.rows);
        let lane = system_lane(&self.systems, system_id);
        let found = self.travels.call(lane, "row?".to_owned(), move || rows.get(system_id)).await;
        found.ok_or_else(table_failed)
    }

    async fn upsert(&self, row: &SystemRow, rule: WriteRule, _ledger: &Ledger) -> Result<bool, StoreError> {
        let rows = Arc::clone(&self.rows);
        let lane = system_lane(&self.systems, row.system_id);
        let (row, what) = (row.clone(), format!("row! v{}", row.version));
        let taken = self.travels.call(lane, what, move || rows.upsert(lane, row, rule)).await;
        taken.ok_or_else(table_failed)
    }

    async fn claim(
        &self,
        system_id: Uuid,
        seen: RowMark,
        epoch: u64,
        by: Uuid,
        _ledger: &Ledger,
    ) -> Result<bool, StoreError> {
        let rows = Arc::clone(&self.rows);
        let lane = system_lane(&self.systems, system_id);
        let claim = move || rows.claim(lane, system_id, seen, (epoch, by));
        self.travels.call(lane, format!("claim e{epoch}"), claim).await.ok_or_else(table_failed)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(&self) {}

    fn kind(&self) -> &'static str {
        "simulated"
    }
}

/// The object store.
#[derive(Debug)]
pub(crate) struct SimObjects {
    travels: Travels,
    pub(crate) inner: Arc<InMemory>,
    rows: Arc<Rows>,
    systems: Vec<Uuid>,
    /// Multipart uploads, lists with delimiters, copies asked for: none is expected.
    pub(crate) unexpected: AtomicU64,
}

impl SimObjects {
    pub(crate) fn new(
        scene: &Arc<Scene>,
        wire: &Arc<Wire>,
        table: &SimTable,
        inner: Arc<InMemory>,
    ) -> Arc<Self> {
        let travels = Travels::new(scene, wire, Trouble::ObjectsDown);
        let (rows, systems) = (Arc::clone(&table.rows), table.systems.clone());
        Arc::new(Self { travels, inner, rows, systems, unexpected: AtomicU64::new(0) })
    }

    fn lane(&self, at: &Path) -> u64 {
        let id = at.parts().nth(1).and_then(|part| Uuid::parse_str(part.as_ref()).ok());
        id.map_or(ARCHIVE, |id| system_lane(&self.systems, id))
    }
}

fn objects_failed() -> object_store::Error {
    let source = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    object_store::Error::Generic { store: "simulated", source: Box::new(source) }
}

impl fmt::Display for SimObjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimObjects")
    }
}

/// A future of the store in memory, which never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    use futures_util::FutureExt;
    future.now_or_never().expect("the store in memory never waits")
}

#[async_trait]
impl ObjectStore for SimObjects {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> ObjectResult<PutResult> {
        let (inner, path, scene, lane) =
            (Arc::clone(&self.inner), at.clone(), Arc::clone(&self.travels.scene), self.lane(at));
        let apply = move || {
            let bytes: Bytes = payload.clone().into();
            let result = at_once(inner.put_opts(&path, payload, options));
            scene.note_bytes(lane, if result.is_ok() { "object" } else { "object there already" }, &bytes);
            result
        };
        self.travels.call(lane, format!("put {at}"), apply).await.ok_or_else(objects_failed)?
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> ObjectResult<GetResult> {
        let (inner, path) = (Arc::clone(&self.inner), at.clone());
        let apply = move || at_once(inner.get_opts(&path, options));
        let found = self.travels.call(self.lane(at), format!("get {at}"), apply).await;
        found.ok_or_else(objects_failed)?
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, ObjectResult<Path>>,
    ) -> BoxStream<'static, ObjectResult<Path>> {
        let (inner, rows, scene) =
            (Arc::clone(&self.inner), Arc::clone(&self.rows), Arc::clone(&self.travels.scene));
        let delete = move |path: ObjectResult<Path>| {
            let path = path?;
            scene.note(ARCHIVE, || format!("delete {path}"));
            let named = lock(&rows.now).values().any(|row| {
                let previous = row.previous.as_ref().map(|previous| previous.state_ref.as_str());
                [row.state_ref.as_deref(), previous].contains(&Some(path.as_ref()))
            });
            if named {
                scene.violated(format!("an object is deleted that a pointer names: {path}"));
            }
            at_once(object_store::ObjectStoreExt::delete(&*inner, &path))?;
            Ok(path)
        };
        at.map(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, ObjectResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> ObjectResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> ObjectResult<Box<dyn MultipartUpload>> {
        self.unexpected.fetch_add(1, Ordering::SeqCst);
        self.inner.put_multipart_opts(at, options).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> ObjectResult<()> {
        self.unexpected.fetch_add(1, Ordering::SeqCst);
        self.inner.copy_opts(from, to, options).await
    }
}
