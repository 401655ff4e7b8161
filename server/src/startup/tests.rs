//! Sentences for people.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn message(path: &Path) -> String {
    open_disk(path).expect_err("must be refused").to_string()
}

#[test]
fn a_good_directory_stays_empty() {
    let directory = tempfile::tempdir().unwrap();
    let disk = open_disk(directory.path()).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let mut names = [0; 256];
    assert_eq!(rustix::fs::listxattr(directory.path(), &mut names[..]).unwrap(), 0);
    drop(disk);
}

#[test]
fn one_server_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = open_disk(directory.path()).unwrap();
    assert!(message(directory.path()).contains("another net_raid_server serves it"));
    drop(first);
    open_disk(directory.path()).unwrap();
}

#[test]
fn missing_file_and_kernel_directories() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(message(&directory.path().join("none")).contains("no such directory"));
    assert!(message(&file).contains("not a directory"));
    assert!(message(&file.join("below")).contains("not a directory"));
    let proc = message(Path::new("/proc"));
    assert!(proc.starts_with("cannot serve /proc: "), "{proc}");
    assert_eq!(proc.lines().count(), 1);
}

#[test]
fn a_directory_without_permission() {
    if rustix::process::geteuid().is_root() {
        return; // root may write everywhere; the binary's own tests run it as another user
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    assert!(message(directory.path()).contains("no permission to write"));
}

#[test]
fn addresses_as_people_write_them() {
    for (text, address) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("[::1]", "::1"), ("0.0.0.0", "0.0.0.0")] {
        assert_eq!(parse_ip(text).unwrap(), address.parse::<IpAddr>().unwrap());
    }
    for text in ["", "localhost", "300.1.1.1", "[127.0.0.1]", "[::1", "::1]", "127.0.0.1:80", "1.2.3"] {
        assert!(parse_ip(text).unwrap_err().contains("not an IP address"), "{text}");
    }
}
