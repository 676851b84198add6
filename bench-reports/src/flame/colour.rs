//! What a frame's colour says. Waiting is blue-grey and nothing else is; running is orange; what did not succeed is dark red.

use mipro_telemetry::wall::{AWAIT, CANCELLED, FAILED, POLL};

pub(super) const WAITING: [u8; 3] = [132, 158, 189];
const RUNNING: [u8; 3] = [233, 128, 44];
const UNSUCCESSFUL: [u8; 3] = [196, 84, 92];
const UNCHANGED: [f64; 3] = [236.0, 234.0, 230.0];
const MORE: [f64; 3] = [214.0, 60.0, 50.0];
const LESS: [f64; 3] = [58.0, 110.0, 205.0];

/// The colour of a frame by its name: the same name has the same colour in every picture.
pub(super) fn of(name: &str) -> [u8; 3] {
    match name {
        AWAIT => WAITING,
        POLL => RUNNING,
        CANCELLED | FAILED => UNSUCCESSFUL,
        _ => warm(name),
    }
}

/// Sand to orange. Frames of the kernel (`…_[k]`) are greener, so that system calls are seen at a glance.
fn warm(name: &str) -> [u8; 3] {
    let hash = fnv(name);
    let vary = |shift: u32, span: u64| ((hash >> shift) % span) as u8;
    if name.ends_with("_[k]") {
        return [170 + vary(0, 30), 190 + vary(8, 30), 90 + vary(16, 40)];
    }
    [228 + vary(0, 24), 172 + vary(8, 44), 96 + vary(16, 44)]
}

/// From unchanged to the change's colour, by the root of its share of the largest: small changes are seen, too.
pub(super) fn of_change(change: f64, largest: f64) -> [u8; 3] {
    let share = if largest > 0.0 { (change.abs() / largest).min(1.0).sqrt() } else { 0.0 };
    let target = if change < 0.0 { LESS } else { MORE };
    let mix = |from: f64, to: f64| (from + (to - from) * share).round() as u8;
    [mix(UNCHANGED[0], target[0]), mix(UNCHANGED[1], target[1]), mix(UNCHANGED[2], target[2])]
}

/// FNV-1a: a few lines, and the same in every build.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
