use std::sync::{Arc, Barrier};

use super::*;

const PURPOSE: &str = "test-key";

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn error(path: &Path) -> String {
    load_or_create(path, PURPOSE).unwrap_err().to_string()
}

#[test]
fn a_new_file_is_private_and_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let first = load_or_create(&path, PURPOSE).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(load_or_create(&path, PURPOSE).unwrap(), first);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_file_that_others_can_read_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    load_or_create(&path, PURPOSE).unwrap();
    for mode in [0o640, 0o604, 0o660, 0o644] {
        set_mode(&path, mode);
        let text = error(&path);
        assert!(text.contains(&format!("mode {mode:04o}")), "{text}");
        assert!(text.contains(&format!("chmod 600 {}", path.display())), "{text}");
    }
    set_mode(&path, 0o400);
    assert!(load_or_create(&path, PURPOSE).is_ok());
}

#[test]
fn what_is_not_a_key_is_refused_by_line_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    let good = line(PURPOSE, &[7; 32]);
    for (text, at) in [
        (String::new(), 1),
        ("hello\n".to_owned(), 1),
        (line("other-key", &[7; 32]), 1),
        (good.replace("v1", "v2"), 1),
        (format!("{good}{PURPOSE} v1 AAAA\n"), 2),
        (format!("# comment\n\n{good}{PURPOSE}\n"), 4),
        (good.replace('\n', " x\n"), 1),
    ] {
        fs::write(&path, &text).unwrap();
        set_mode(&path, 0o600);
        assert!(error(&path).contains(&format!("line {at} ")), "{text:?}: {}", error(&path));
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn several_keys_keep_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    fs::write(&path, format!("# newest first\n{}{}", line(PURPOSE, &[2; 32]), line(PURPOSE, &[1; 32]))).unwrap();
    set_mode(&path, 0o600);
    assert_eq!(load_or_create(&path, PURPOSE).unwrap(), [[2; 32], [1; 32]]);
}

#[test]
fn a_missing_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let text = error(&directory.path().join("absent/key"));
    assert!(text.contains("absent/key: create: No such file"), "{text}");
}

#[test]
fn processes_that_create_at_once_end_with_one_key() {
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        let path = Arc::new(directory.path().join("key"));
        let barrier = Arc::new(Barrier::new(8));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (path, barrier) = (Arc::clone(&path), Arc::clone(&barrier));
                std::thread::spawn(move || {
                    barrier.wait();
                    load_or_create(&path, PURPOSE).unwrap()
                })
            })
            .collect();
        let keys: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
