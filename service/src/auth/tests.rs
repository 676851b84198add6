use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use super::{Admitted, DEFAULT_ORG, Denied, Error, Keyring};
use crate::config::{AuthOptions, Secret};
use crate::engine::Access;

const ORG: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";

fn ring(text: &str) -> Result<Keyring, Error> {
    Keyring::load(&AuthOptions { keys: Some(Secret::new(text)), ..AuthOptions::default() })
}

fn headers(name: &'static str, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
}

#[test]
fn no_keys_let_everybody_in() {
    let open = Keyring::load(&AuthOptions::default()).unwrap();
    assert!(open.is_open());
    assert_eq!(open.admit(&HeaderMap::new()), Ok(DEFAULT_ORG));
    assert_eq!(open.admit(&headers("authorization", "Bearer whatever")), Ok(DEFAULT_ORG));
    let anybody = Admitted { access: Access::Capability, own_bearer: false };
    assert_eq!(open.admit_to_proxy(&HeaderMap::new()), Ok(anybody));
}

#[test]
fn keys_belong_to_orgs() {
    let keys = ring(&format!("alpha:{ORG}, beta")).unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys.find("alpha"), Some(ORG.parse::<Uuid>().unwrap()));
    assert_eq!(keys.find("beta"), Some(DEFAULT_ORG));
    for wrong in ["", "alph", "alpha ", "ALPHA", "alpha:6f9619ff-8b86-4d01-b42d-00cf4fc964ff"] {
        assert_eq!(keys.find(wrong), None, "{wrong:?}");
    }
}

#[test]
fn only_a_known_bearer_is_admitted() {
    let keys = ring("alpha").unwrap();
    for good in ["Bearer alpha", "bearer alpha", "BEARER  alpha "] {
        assert_eq!(keys.admit(&headers("authorization", good)), Ok(DEFAULT_ORG), "{good:?}");
    }
    for bad in ["alpha", "Basic alpha", "Bearer", "Bearer ", "Bearer beta"] {
        assert_eq!(keys.admit(&headers("authorization", bad)), Err(Denied), "{bad:?}");
    }
    assert_eq!(keys.admit(&headers("x-api-key", "alpha")), Err(Denied));
    assert_eq!(keys.admit(&HeaderMap::new()), Err(Denied));
}

#[test]
fn the_proxy_tells_our_bearer_from_the_llms() {
    let keys = ring("alpha").unwrap();
    let access = Access::Org(DEFAULT_ORG);
    let ours = Admitted { access, own_bearer: true };
    assert_eq!(keys.admit_to_proxy(&headers("authorization", "Bearer alpha")), Ok(ours));
    let mut both = headers("authorization", "Bearer sk-llm");
    assert_eq!(keys.admit_to_proxy(&both), Err(Denied));
    both.insert("x-api-key", HeaderValue::from_static("alpha"));
    assert_eq!(keys.admit_to_proxy(&both), Ok(Admitted { access, own_bearer: false }));
}

#[test]
fn a_list_of_no_keys_does_not_open_the_door() {
    for none in [",", " ", " , ,"] {
        assert!(matches!(ring(none), Err(Error::Malformed { .. })), "{none:?}");
    }
}

#[test]
fn files_have_comments_and_blank_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys");
    std::fs::write(&path, format!("# ours\n\nalpha:{ORG}  # alice\n beta \n")).unwrap();
    let options = AuthOptions { keys_file: Some(path.clone()), ..AuthOptions::default() };
    let keys = Keyring::load(&options).unwrap();
    assert_eq!((keys.find("alpha").is_some(), keys.find("beta"), keys.len()), (true, Some(DEFAULT_ORG), 2));
    std::fs::write(&path, "# none\n").unwrap();
    assert!(
        matches!(Keyring::load(&options), Err(Error::Empty { .. })),
        "a file of no keys must not open the door"
    );
}

#[test]
fn complaints_never_hold_a_key() {
    for text in ["hunter2:not-a-uuid", "ok,hunter2 x", &format!("hunter2,hunter2:{ORG}")] {
        let error = ring(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
    insta::assert_snapshot!(
        ring("ok,key:org").unwrap_err(),
        @"MIPRO_API_KEYS, entry 2: what follows the last `:` must be the org's UUID"
    );
    assert!(!format!("{:?}", ring("hunter2").unwrap()).contains("hunter2"));
}
