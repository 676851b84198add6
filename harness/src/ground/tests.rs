use super::*;

#[test]
fn a_link_without_a_database_on_it_claims_none() {
    let link = LinkSpec::cross_region();
    let wired = described(&link, true);
    assert!(wired.contains("DB RTT 70.0 ms") && wired.contains("fitted"), "{wired}");
    let wireless = described(&link, false);
    assert!(
        wireless.contains("S3 RTT 52.0 ms") && wireless.contains("no wire to the database"),
        "{wireless}"
    );
    assert!(!wireless.contains("DB RTT") && !wireless.contains("fitted"), "{wireless}");
}
