use std::os::unix::fs::PermissionsExt as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::Header;

use super::*;

/// An archive, and its digest.
fn archive(entries: &[(&str, EntryType, &str)]) -> (tempfile::TempDir, PathBuf, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tar.gz");
    let mut builder = tar::Builder::new(GzEncoder::new(File::create(&path).unwrap(), Compression::fast()));
    for (name, kind, content) in entries {
        let mut header = Header::new_ustar();
        // By hand: the crate would refuse to write what it is to be tested with.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        let body: &[u8] = if *kind == EntryType::Regular { content.as_bytes() } else { b"" };
        if *kind == EntryType::Symlink || *kind == EntryType::Link {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap();
    let digest = aws_lc_rs::digest::digest(&SHA256, &fs::read(&path).unwrap());
    let digest = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    (directory, path, digest)
}

const FILE: EntryType = EntryType::Regular;

#[test]
fn the_one_directory_of_an_archive_becomes_the_action_with_its_modes_and_links() {
    let (directory, path, digest) = archive(&[
        ("tools-1/", EntryType::Directory, ""),
        ("tools-1/action.yml", FILE, "runs:"),
        ("tools-1/dist/link", EntryType::Symlink, "../action.yml"),
    ]);
    let place = directory.path().join("_actions/acme/tools/releases/v1");
    unpack(&path, &digest, &directory.path().join("scratch"), &place).unwrap();
    assert_eq!(fs::read_to_string(place.join("dist/link")).unwrap(), "runs:");
    assert_eq!(fs::metadata(place.join("action.yml")).unwrap().permissions().mode() & 0o111, 0o111);
    assert_eq!(fs::read_dir(directory.path().join("scratch")).unwrap().count(), 0, "nothing is left");
}

#[test]
fn an_archive_that_was_tampered_with_is_not_used_and_goes() {
    let (directory, path, _) = archive(&[("x/a", FILE, "evil")]);
    let place = directory.path().join("place");
    let error = unpack(&path, &"0".repeat(64), directory.path(), &place).unwrap_err();
    assert!(matches!(error, ArchiveError::Digest(_)), "{error}");
    assert!(!place.exists() && !path.exists());
}

#[test]
fn entries_that_leave_the_archive_and_odd_ones_are_refused_by_name() {
    let refused = |entries: &[(&str, EntryType, &str)]| {
        let (directory, path, digest) = archive(entries);
        let place = directory.path().join("place");
        let error = unpack(&path, &digest, &directory.path().join("s"), &place).unwrap_err().to_string();
        assert!(!place.exists());
        error
    };
    for path in ["../evil", "x/../../evil", "/etc/evil"] {
        let said = refused(&[("x/a", FILE, ""), (path, FILE, "evil")]);
        assert!(said.contains("leads out of it"), "{path}: {said}");
    }
    for target in ["/etc/passwd", "../../evil", "../y", ".."] {
        let said = refused(&[("x/a", EntryType::Symlink, target)]);
        assert!(said.contains("`x/a` leads out of it"), "{target}: {said}");
    }
    // Two links that are harmless alone.
    let said = refused(&[
        ("x/d/", EntryType::Directory, ""),
        ("x/d/e", EntryType::Symlink, "../d"),
        ("x/d/f", EntryType::Symlink, "e/../.."),
        ("x/d/f/evil", FILE, "evil"),
    ]);
    assert!(said.contains("leads out of it"), "{said}");
    for kind in [EntryType::Fifo, EntryType::Char, EntryType::Link] {
        assert!(refused(&[("x/a", kind, "")]).contains("neither a file"), "{kind:?}");
    }
    assert!(refused(&[("x/a", FILE, ""), ("y/a", FILE, "")]).contains("top-level"));
    assert!(refused(&[("a", FILE, "")]).contains("top-level"));
}

#[test]
fn only_archives_that_were_not_wanted_for_long_give_way_and_unfinished_downloads_go() {
    let directory = tempfile::tempdir().unwrap();
    let at = |minutes: i64| Timestamp::from_second(minutes * 60).unwrap();
    let put = |name: &str, size: u64, minutes: i64| {
        let file = File::create(directory.path().join(name)).unwrap();
        file.set_len(size).unwrap();
        file.set_modified(SystemTime::from(at(minutes))).unwrap();
    };
    put("old", KEPT - 10, 100);
    put("newer", 20, 101);
    put(".draft-x", 1, 102);
    put("fresh", KEPT, 129);
    put(".draft-y", 1, 129);
    Archives::new(directory.path().to_owned()).shrink(at(130));
    let mut left: Vec<String> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [".draft-y", "fresh"]);
}
