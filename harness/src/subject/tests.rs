use super::*;

fn parse(text: &str, naming: Naming) -> Result<Subject, UnknownSubject> {
    Subject::parse(text, naming, RungName::OneCall)
}

#[test]
fn a_side_is_named_as_people_would() {
    let rung = parse("pooled@db=12ms,s3=40ms", Naming::Plain).unwrap();
    assert_eq!(rung.to_string(), "pooled@db=12ms,s3=40ms");
    assert_eq!(rung.rung(), Some(RungName::Pooled));
    assert_eq!(
        parse("HEAD~1", Naming::Revision).unwrap(),
        Subject::Revision { revision: "HEAD~1".into(), rung: RungName::OneCall }
    );
    // Revisions may hold what means something else elsewhere.
    assert_eq!(parse("rev:HEAD@{1}", Naming::Plain).unwrap().to_string(), "HEAD@{1}");
    assert_eq!(
        parse("target/release/mipro", Naming::Binary).unwrap(),
        Subject::Binary { path: "target/release/mipro".into(), rung: RungName::OneCall }
    );
    assert_eq!(parse("bin:x", Naming::Revision).unwrap().to_string(), "x");
}

#[test]
fn a_service_is_shown_without_its_secrets() {
    let service = parse("http://user:secret@10.0.0.7:8090/base?token=x", Naming::Revision).unwrap();
    assert!(service.is_running() && service.rung().is_none());
    assert_eq!(service.to_string(), "http://10.0.0.7:8090");
}

#[test]
fn what_is_no_side_says_what_one_is() {
    let told = parse("nope", Naming::Plain).unwrap_err().to_string();
    assert!(told.contains("bin:PATH") && told.contains("no rung `nope`") && told.contains("blob"), "{told}");
    assert!(matches!(parse("", Naming::Revision), Err(UnknownSubject::Empty)));
    assert!(matches!(parse("pooled@db=12", Naming::Plain), Err(UnknownSubject::Link(_))));
    assert!(matches!(parse("http://", Naming::Plain), Err(UnknownSubject::Url { .. })));
}
