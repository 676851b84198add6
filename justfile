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

# One side against another, interleaved: `just compare bounded logged`, `just compare --rev HEAD~1 HEAD`.
compare *ARGS:
    cargo run --release -- compare {{ARGS}}

# What a rollout may cost: counts and ceilings; with `--base origin/main` a comparison, too.
gate *ARGS:
    cargo run --release -- gate {{ARGS}}

# What is counted now becomes what is allowed: of rollouts, and of instructions.
bench-accept *ARGS:
    cargo run --release -- gate --accept {{ARGS}}
    cargo bench -p mipro-cli -p mipro-microbench --bench instructions
    cargo run --release -- gate --accept --instructions

# A against A: this machine's false-alarm rate and noise floor. An hour; `just aa --runs 20` takes ten minutes.
aa *ARGS:
    cargo run --release -- aa --runs 120 --pairs 12 --slice 500ms {{ARGS}}

# How long single functions take: `just micro tpe`.
micro *ARGS:
    cargo bench -p mipro-cli -p mipro-microbench --bench micro -- {{ARGS}}

# How many instructions they take, as callgrind counts them, held against their budgets.
instructions:
    cargo bench -p mipro-cli -p mipro-microbench --bench instructions
    cargo run --release -- gate --instructions

# Faults of cost, planted: the count gates must catch each one and name its stage.
planted *ARGS:
    cargo build
    scripts/planted {{ARGS}}

# 20 % more and less time on one stage, planted: how often comparisons say so.
planted-time *ARGS:
    cargo build --release
    scripts/planted-time {{ARGS}}

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
