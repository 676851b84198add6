use super::*;

#[test]
fn cpu_is_a_share_of_one_core_and_memory_what_is_there_at_the_end() {
    let before = Usage { cpu_user_s: 1.0, cpu_system_s: 0.5, rss_bytes: 9, ..Usage::default() };
    let after = Usage {
        cpu_user_s: 3.0,
        cpu_system_s: 1.5,
        rss_bytes: 30_000_000,
        rss_peak_bytes: 90_000_000,
        ..before
    };
    let seen = point(50, before, after, Duration::from_secs(2));
    assert_eq!(seen, ResourcePoint { clients: 50, cpu_pct: 150.0, rss_bytes: 30_000_000 });
    let nothing = point(1, before, before, Duration::ZERO);
    assert_eq!(nothing.cpu_pct.to_bits(), 0.0_f64.to_bits());
}
