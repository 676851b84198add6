use super::*;

fn floor() -> NoiseFloor {
    NoiseFloor {
        schema: NoiseFloor::SCHEMA.to_owned(),
        measured_at: "2027-01-01T00:00:00Z".to_owned(),
        command: "mipro aa".to_owned(),
        machine: Machine::of(&machine()),
        pairs: 12,
        rollouts: 20,
        fresh: Vec::new(),
        redrawn: Vec::new(),
    }
}

#[test]
fn only_this_machines_noise_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/noise.json");
    assert_eq!(read(&path), None);
    write(&path, &floor()).unwrap();
    assert_eq!(read(&path), Some(floor()));
    let foreign = NoiseFloor { machine: Machine { cores: 999, ..Machine::of(&machine()) }, ..floor() };
    write(&path, &foreign).unwrap();
    assert_eq!(read(&path), None);
    std::fs::write(&path, "{}").unwrap();
    assert_eq!(read(&path), None);
}
