//! How long scenes take: `cargo bench -p mipro-microbench --bench micro`, or with a part of their names behind ` -- `.

mod scenes;

fn main() {
    mipro_microbench::timed(&scenes::all());
}
