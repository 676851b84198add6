//! The spans that a ledger opens for profilers: one a request, one a stage below it.
//!
//! Their target is [`TARGET`] at level trace, so without a profile they cost what a disabled callsite does (2 ns). Each stage has
//! a callsite of its own, since a span's name is static and some layers show nothing but the name. A stage's parent is always
//! its request; where one stage runs inside another, the reader learns it from the span that was entered when it began.
//! How something ended is recorded ([`END`]), never told by the closing of a span: that waits for the last clone of it.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tracing::Span;
use tracing::field::Empty;

use crate::stage::{Operation, Phase, Stage};

/// Target of all spans of requests and stages.
pub const TARGET: &str = "mipro::stage";
/// Name of a request's span.
pub const REQUEST: &str = "request";
/// Field of a request: its [`Operation`]; recorded anew when it ends.
pub const OPERATION: &str = "operation";
/// Field of a request: a hash of the rollout's id.
pub const ROLLOUT: &str = "rollout";
/// Field of a stage: its [`Phase`], where it has one.
pub const PHASE: &str = "phase";
/// Field of both, recorded at the end: [`DONE`], [`FAILED`] or [`CANCELLED`].
pub const END: &str = "end";
/// It succeeded.
pub const DONE: &str = "done";
/// It came to an end, with an error.
pub const FAILED: &str = "failed";
/// It was dropped before its end; some errors look like that, too.
pub const CANCELLED: &str = "cancelled";

pub(super) fn request(operation: Operation) -> Span {
    tracing::trace_span!(
        target: TARGET, parent: None, REQUEST, operation = operation.name(), rollout = Empty, end = Empty
    )
}

/// One callsite for each name.
macro_rules! callsites {
    ($request:expr, $stage:expr, $phase:expr, $($variant:ident => $name:literal),+ $(,)?) => {
        match $stage {
            $(Stage::$variant => tracing::trace_span!(
                target: TARGET, parent: $request, $name, phase = $phase, end = Empty
            ),)+
        }
    };
}

pub(super) fn stage(request: &Span, stage: Stage, phase: Option<Phase>) -> Span {
    let phase = phase.map(Phase::name);
    callsites!(
        request, stage, phase,
        Queue => "queue",
        DbAcquire => "db.acquire",
        DbQuery => "db.query",
        DbDecode => "db.decode",
        S3Get => "s3.get",
        S3Put => "s3.put",
        StateEncode => "state.encode",
        StateDecode => "state.decode",
        PolicySuggest => "policy.suggest",
        PolicyObserve => "policy.observe",
        LogAppend => "log.append",
        GateWait => "gate.wait",
        PromptRender => "prompt.render",
        LlmConnect => "llm.connect",
        LlmFirstByte => "llm.first_byte",
        LlmBody => "llm.body",
        Other => "other",
        LogSync => "log.sync",
        SnapshotEncode => "snapshot.encode",
        SnapshotPut => "snapshot.put",
        PointerUpdate => "pointer.update",
    )
}

pub(super) fn rollout(request: &Span, rollout_id: &str) {
    if !request.is_disabled() {
        let mut hasher = DefaultHasher::new();
        rollout_id.hash(&mut hasher);
        request.record(ROLLOUT, hasher.finish());
    }
}

pub(super) fn ended(request: &Span, operation: Operation, end: &'static str) {
    request.record(OPERATION, operation.name());
    request.record(END, end);
}
