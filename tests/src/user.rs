//! Doing something as another user of this machine.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::process::{Gid, Uid};
use rustix::thread as creds;

/// User and group ids without any special right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's id.
    pub uid: u32,
    /// The only group.
    pub gid: u32,
}

/// A user; needs no entry in the password file.
pub const ALICE: User = User { uid: 60_001, gid: 60_001 };
/// Another, in another group.
pub const BOB: User = User { uid: 60_002, gid: 60_002 };

/// One who is in the password file, for programs that want a name; a group of the same number.
pub const NOBODY: User = User { uid: 65_534, gid: 65_534 };

impl User {
    /// `program`, run by this user. Only root may.
    pub fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // Without supplementary groups: the standard library drops those of root.
        command.uid(self.uid).gid(self.gid);
        command
    }
}

/// Runs `work` as `user`, without supplementary groups and capabilities, in a thread of its own:
/// Linux keeps credentials for each thread, and this one ends with them.
///
/// # Panics
/// When `work` does, or when the caller is not root.
pub fn as_user<T: Send>(user: User, work: impl FnOnce() -> T + Send) -> T {
    as_user_in(user, &[], work)
}

/// The same, as a member of `groups` too.
pub fn as_user_in<T: Send>(user: User, groups: &[u32], work: impl FnOnce() -> T + Send) -> T {
    let groups: Vec<Gid> = groups.iter().map(|&g| Gid::from_raw(g)).collect();
    let as_thread = || {
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        creds::set_thread_groups(&groups).expect("only root can become another user");
        creds::set_thread_res_gid(gid, gid, gid).expect("setresgid");
        creds::set_thread_res_uid(uid, uid, uid).expect("setresuid");
        work()
    };
    let joined = thread::scope(|scope| scope.spawn(as_thread).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
