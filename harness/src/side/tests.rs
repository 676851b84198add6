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

#[test]
fn each_process_has_a_directory_that_none_before_had() {
    let dirs = [1, 2].into_iter().scan(PathBuf::from("data/a"), |dir, n| {
        *dir = next_dir(dir, n);
        Some(dir.clone())
    });
    assert_eq!(dirs.collect::<Vec<_>>(), [PathBuf::from("data/a.1"), PathBuf::from("data/a.2")]);
}
