# `just` alone lists what there is.
default:
    @just --list --unsorted

# The main job: the ladder, before and after each optimization.
bench *ARGS:
    cargo run --release -- bench {{ARGS}}

# The ladder in under a minute of measuring.
quick *ARGS:
    cargo run --release -- bench --quick {{ARGS}}

# Renders the newest run again.
report *ARGS:
    cargo run --release -- report bench-reports/runs/latest {{ARGS}}

# Every test.
test *ARGS:
    cargo nextest run --workspace {{ARGS}}

# One simulated history of the whole service, with its trace: `just sim 42`.
sim SEED:
    MIPRO_SIM_SEED={{SEED}} cargo test -p mipro-service --test sim nothing_acknowledged -- --nocapture

# Format, lints, docs: what a commit must pass besides the tests. Never writes to the work tree.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

# Licences, bans and sources of everything we depend on.
deny:
    cargo deny check licenses bans sources

# What CI runs, on this machine.
ci:
    bash .ci/run

# Kills the service again and again, at every crash point and at random, and holds what clients were told against what is there.
kill ROUNDS="500":
    MIPRO_KILL_ROUNDS={{ROUNDS}} cargo test -p mipro-cli --test it -- kill::nothing --nocapture --test-threads=1
