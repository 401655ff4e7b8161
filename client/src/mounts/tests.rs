use std::path::Path;

use super::options::{Options, allows_other};
use super::table::Table;

const TABLE: &[u8] = br"22 27 0:20 / /proc rw,nosuid - proc proc rw
36 27 0:53 / /mnt/a\040b\134c rw,relatime shared:1 master:2 - fuse.net_raid STORAGE1 rw,user_id=0
37 36 0:54 / /mnt/a\040b\134c rw - ext4 /dev/sda rw
38 27 0:55 / /mnt/x rw - fuse x rw
a line of another kernel
39 27 0:fifty / /mnt/y rw - ext4 /dev/sdb rw
";

#[test]
fn the_mount_on_top_is_the_last_one_of_the_table() {
    let table = Table::parse(TABLE);
    assert_eq!(table.0.len(), 4);
    let top = table.top(Path::new("/mnt/a b\\c")).unwrap();
    assert_eq!((top.device.to_string().as_str(), top.fs_type.as_str()), ("0:54", "ext4"));
    assert!(table.top(Path::new("/mnt")).is_none());
}

#[test]
fn fuse_has_subtypes() {
    let fuse: Vec<_> = Table::parse(TABLE).0.into_iter().map(|entry| entry.is_fuse()).collect();
    assert_eq!(fuse, [false, true, false, true]);
}

#[test]
fn this_machine_has_a_root_mount() {
    assert!(Table::read().unwrap().top(Path::new("/")).is_some());
}

#[test]
fn options_for_the_kernel() {
    let options = Options::new("STORAGE1", true).for_kernel(7, 0, 0);
    let want = "fd=7,rootmode=40000,user_id=0,group_id=0,default_permissions,max_read=1048576,allow_other";
    assert_eq!(options, want);
}

#[test]
fn options_for_the_helper_escape_the_name() {
    let options = Options::new(r"a,b\c", false).for_helper();
    assert_eq!(options, r"rw,fsname=a\,b\\c,subtype=net_raid,default_permissions,max_read=1048576");
}

#[test]
fn others_are_allowed_by_a_line_of_its_own() {
    assert!(allows_other("# comment\n user_allow_other \n"));
    assert!(!allows_other("#user_allow_other\nmount_max = 1000\n"));
}
