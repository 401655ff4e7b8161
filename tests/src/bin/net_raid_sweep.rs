//! Ends the processes and mounts, and removes the directories, of test programs that were killed.

fn main() {
    net_raid_tests::workdir::sweep();
}
