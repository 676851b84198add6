//! The service's pure parts, and its logs. [`system`]: deciding, applying, and the codecs of both; [`policy`]: TPE; [`log`]: the log
//! in memory and the one of segments, the disk's part told apart; [`prompt`]: rendering.

use mipro_microbench::Scene;

mod log;
mod policy;
mod prompt;
mod system;

pub(super) fn all() -> Vec<Scene> {
    [policy::all(), system::all(), prompt::all(), log::all()].concat()
}
