use super::*;

#[test]
fn each_side_has_a_place_of_its_own() {
    let blobs = "s3://mipro/bench?endpoint=http://127.0.0.1:9000";
    assert_eq!(with_folder(blobs, "b"), "s3://mipro/bench/b?endpoint=http://127.0.0.1:9000");
    assert_eq!(with_folder("file:///var/blobs/", "a"), "file:///var/blobs/a");
    assert_eq!(with_folder("memory:", "a"), "memory:");
    let database = "postgres://postgres@127.0.0.1:5432/mipro?sslmode=disable";
    assert_eq!(with_path(database, DATABASE_B), "postgres://postgres@127.0.0.1:5432/mipro_b?sslmode=disable");
}
