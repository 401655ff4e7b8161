use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

fn sleeper() -> Child {
    Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap()
}

fn holder_of(child: &Child) -> Holder {
    let pid = child.id();
    Holder { pid, started_ticks: Stat::of(pid).unwrap().started_ticks, ..Machine.holder() }
}

#[test]
fn this_process_lives() {
    let holder = Machine.holder();
    assert_eq!(holder.pid, std::process::id());
    assert!(holder.started_ticks > 0 && !holder.host.is_empty() && holder.boot.contains("pid:["), "{holder:?}");
    assert!(!Machine.is_dead(&holder));
}

#[test]
fn a_killed_process_is_dead_before_its_parent_has_asked_for_it() {
    let mut child = sleeper();
    let holder = holder_of(&child);
    assert!(!Machine.is_dead(&holder));
    child.kill().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !Machine.is_dead(&holder) {
        assert!(Instant::now() < deadline, "it is not dead: {:?}", Stat::of(child.id()));
        std::thread::yield_now();
    }
    assert_eq!(Stat::of(child.id()).unwrap().state, 'Z');
    child.wait().unwrap();
    assert!(Machine.is_dead(&holder));
}

#[test]
fn a_pid_that_was_used_again_is_another_process() {
    let mut child = sleeper();
    let holder = holder_of(&child);
    assert!(Machine.is_dead(&Holder { started_ticks: holder.started_ticks - 1, ..holder.clone() }));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Of a machine with the same name, of a container beside this one, and of a time before a restart nothing is known.
#[test]
fn processes_elsewhere_are_not_known_to_be_dead() {
    let gone = Holder { started_ticks: 1, ..Machine.holder() };
    assert!(Machine.is_dead(&gone));
    for boot in ["", "another", gone.boot.split_once(' ').unwrap().0] {
        assert!(!Machine.is_dead(&Holder { boot: boot.into(), ..gone.clone() }), "{boot:?}");
    }
    assert!(!Machine.is_dead(&Holder { pid: 0, ..gone.clone() }));
    assert!(!Machine.is_dead(&Holder { pid: u32::MAX, ..gone }));
}

#[test]
fn a_stat_is_parsed_whatever_the_name_is() {
    let rest = "S 1 8 8 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 5 0 777 1 1";
    for name in ["a", "a b", ") R 1 (", "(x) "] {
        let stat = Stat::parse(&format!("8 ({name}) {rest}"));
        assert_eq!(stat, Some(Stat { state: 'S', threads: 5, started_ticks: 777 }), "{name}");
    }
    for cut in ["", "8", "8 (a) ", "8 (a) S 1 8"] {
        assert_eq!(Stat::parse(cut), None, "{cut:?}");
    }
}

/// The first thread of a process may end before the others.
#[test]
fn a_process_with_threads_has_not_ended() {
    let stat = |state, threads| Stat { state, threads, started_ticks: 1 };
    assert!(!stat('Z', 2).has_ended() && !stat('T', 1).has_ended() && !stat('D', 1).has_ended());
    assert!(stat('Z', 1).has_ended() && stat('Z', 0).has_ended() && stat('X', 0).has_ended());
}
