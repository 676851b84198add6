//! How long scenes take: `just micro`, or `just micro PART` for those with it in their names.

mod scenes;

fn main() {
    mipro_microbench::timed(&scenes::all());
}
