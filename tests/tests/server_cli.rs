//! The command line of `net_raid_server`: what it says and how it ends.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use net_raid_tests::binaries;
use net_raid_tests::brick::{Brick, free_address};
use net_raid_tests::cluster::Cluster;
use net_raid_tests::deadline::wait_until;
use net_raid_tests::process::{Finished, kill_group, run, run_ok, send, wait};
use net_raid_tests::user::ALICE;
use net_raid_tests::workdir::Workdir;
use net_raid_tests::{Array, Client, Volume};
use nix::sys::signal::Signal;

const WITHIN: Duration = Duration::from_secs(20);

fn server(arguments: &[&str]) -> Finished {
    run(Command::new(binaries::server()).args(arguments).current_dir("/"), WITHIN)
}

/// Runs `net_raid_server IP PORT DIR` on a free address, which is to end by itself.
fn serve(dir: &Path) -> Finished {
    let address = free_address();
    server(&[&address.ip().to_string(), &address.port().to_string(), dir.to_str().expect("plain path")])
}

/// One line on standard error with each of `words`, nothing on standard output, and this code.
#[track_caller]
fn refused(finished: &Finished, code: i32, words: &[&str]) {
    let Finished { stdout, stderr, .. } = finished;
    assert_eq!(finished.code(), code, "stderr: {stderr}");
    assert_eq!(stderr.trim().lines().count(), 1, "one line is wanted: {stderr}");
    assert!(stdout.is_empty(), "stdout: {stdout}");
    for word in words {
        assert!(stderr.to_lowercase().contains(&word.to_lowercase()), "{word:?} is missing in: {stderr}");
    }
}

#[test]
fn help_and_version() {
    let help = server(&["--help"]);
    assert_eq!(help.code(), 0);
    let text = help.stdout.to_uppercase();
    assert!(["IP", "PORT", "DIR", "--LOG-FORMAT"].iter().all(|word| text.contains(word)), "{text}");
    let version = server(&["--version"]);
    assert_eq!(version.code(), 0);
    assert!(version.stdout.starts_with("net_raid_server "), "{}", version.stdout);
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", version.stdout);
}

#[test]
fn usage_errors_end_with_2() {
    let work = Workdir::new();
    let dir = work.path().to_str().unwrap();
    refused(&server(&[]), 2, &[]);
    refused(&server(&["127.0.0.1"]), 2, &[]);
    refused(&server(&["127.0.0.1", "20000"]), 2, &[]);
    refused(&server(&["127.0.0.1", "20000", dir, "more"]), 2, &["more"]);
    refused(&server(&["--no-such-option", "127.0.0.1", "20000", dir]), 2, &["--no-such-option"]);
    refused(&server(&["127.0.0.1", "99999", dir]), 2, &["99999"]);
    refused(&server(&["127.0.0.1", "port", dir]), 2, &["port"]);
    refused(&server(&["300.0.0.1", "20000", dir]), 2, &["300.0.0.1"]);
    refused(&server(&["--log-format", "xml", "127.0.0.1", "20000", dir]), 2, &["xml"]);
}

#[test]
fn an_address_that_is_not_of_this_machine() {
    let work = Workdir::new();
    // TEST-NET-1 of RFC 5737: nobody has it.
    refused(&server(&["192.0.2.1", "20000", work.path().to_str().unwrap()]), 1, &["192.0.2.1"]);
}

#[test]
fn a_directory_that_is_missing() {
    let work = Workdir::new();
    let dir = work.path().join("missing");
    refused(&serve(&dir), 1, &[dir.to_str().unwrap()]);
    assert!(!dir.exists(), "it must not be created");
}

#[test]
fn a_directory_that_is_a_file() {
    let work = Workdir::new();
    let file = work.path().join("file");
    fs::write(&file, "content").unwrap();
    refused(&serve(&file), 1, &[file.to_str().unwrap(), "director"]);
    assert_eq!(fs::read(&file).unwrap(), b"content");
}

#[test]
fn a_directory_that_is_not_writable() {
    let work = Workdir::new();
    let dir = work.make_dir("brick");
    let program = work.path().join("net_raid_server");
    // By another process: one that this process forks meanwhile would hold the copy open for writing, and it could not be run.
    run_ok(Command::new("cp").arg(binaries::server()).arg(&program), WITHIN);
    let address = free_address();
    let mut command = Command::new(program);
    command.arg(address.ip().to_string()).arg(address.port().to_string()).arg(&dir);
    refused(&run(command.uid(ALICE.uid).gid(ALICE.gid).current_dir("/"), WITHIN), 1, &[dir.to_str().unwrap()]);
}

#[test]
fn a_file_system_without_user_xattrs() {
    let work = Workdir::new();
    let dir = work.make_dir("ramfs");
    run_ok(Command::new("mount").args(["-t", "ramfs", "ramfs"]).arg(&dir), WITHIN);
    refused(&serve(&dir), 1, &[dir.to_str().unwrap(), "xattr"]);
}

#[test]
fn a_directory_that_is_served_already() {
    let cluster = Cluster::start(1);
    let dir = cluster[0].dir().to_owned();
    refused(&serve(&dir), 1, &[dir.to_str().unwrap()]);
    let other_name = cluster.path().join("link");
    std::os::unix::fs::symlink(&dir, &other_name).unwrap();
    refused(&serve(&other_name), 1, &["link"]);
}

#[test]
fn the_lock_goes_with_its_process() {
    let mut cluster = Cluster::start(1);
    cluster[0].kill9();
    cluster[0].start();
    cluster[0].terminate();
    cluster[0].start();
}

#[test]
fn a_port_that_is_in_use() {
    let work = Workdir::new();
    let address = free_address();
    let _taken = TcpListener::bind(address).unwrap();
    let dir = work.make_dir("brick");
    let port = address.port().to_string();
    refused(&server(&[&address.ip().to_string(), &port, dir.to_str().unwrap()]), 1, &[&port, "in use"]);
}

#[test]
fn ipv6_works() {
    let work = Workdir::new();
    let address = SocketAddr::new("::1".parse().unwrap(), free_address().port());
    let mut brick = Brick::new(work.make_dir("brick"), address, None);
    brick.start();
    brick.terminate();
}

#[test]
fn files_without_a_label_are_never_formatted() {
    let mut cluster = Cluster::start(1);
    let dir = cluster.path().join("photos");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("holiday.jpg"), "precious").unwrap();
    refused(&serve(&dir), 1, &[dir.to_str().unwrap()]);
    assert_eq!(fs::read(dir.join("holiday.jpg")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing was added");
    cluster[0].kill9();
}

/// Runs a server with these arguments in front, ends it with `signal`, and returns what it logged.
fn log_of_a_run(arguments: &[&str], signal: Signal) -> String {
    let work = Workdir::new();
    let (address, log) = (free_address(), work.path().join("log"));
    let mut command = Command::new(binaries::server());
    command.args(arguments).arg(address.ip().to_string()).arg(address.port().to_string());
    command.arg(work.make_dir("brick")).env("RUST_LOG", "info").stdin(Stdio::null());
    let out = fs::File::create(&log).unwrap();
    command.stdout(out.try_clone().unwrap()).stderr(out).process_group(0);
    let mut child = command.spawn().unwrap();
    wait_until("it listens", WITHIN, || TcpStream::connect(address).is_ok());
    send(child.id() as i32, signal);
    let status = wait(&mut child, WITHIN);
    kill_group(&mut child);
    let text = fs::read_to_string(log).unwrap();
    assert!(status.is_some_and(|s| s.success()), "{signal}: {status:?}\n{text}");
    text
}

#[test]
fn sigterm_and_sigint_end_it_cleanly() {
    log_of_a_run(&[], Signal::SIGTERM);
    log_of_a_run(&[], Signal::SIGINT);
}

#[test]
fn the_log_is_text_or_json() {
    let json = log_of_a_run(&["--log-format", "json"], Signal::SIGTERM);
    assert!(!json.is_empty(), "nothing was logged");
    assert!(json.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{json}");
    let text = log_of_a_run(&["--log-format", "text"], Signal::SIGTERM);
    assert!(text.lines().any(|line| !line.starts_with('{')), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours in a file: {text}");
}

#[test]
fn sigterm_ends_it_with_a_client_connected() {
    let mut cluster = Cluster::start(2);
    let client = Client::new(cluster.path(), "c", &[Volume::new(&cluster, "V", Array::RAID1, 0)]);
    client.mount();
    cluster[1].terminate();
}

/// Ownership, modes and special files are kept for the mount although the server may not set them.
#[test]
fn an_ordinary_user_serves_everything_too() {
    for array in Array::ALL {
        let cluster = Cluster::start_as(array.bricks, Some(ALICE));
        let client = Client::new(cluster.path(), "c", &[Volume::new(&cluster, "V", array, 0)]);
        client.mount();
        let script = "echo text >file; chown 1234:5678 file; chmod 4711 file; mkfifo fifo; mknod null c 1 3
            ln -s file link; chown -h 11:12 link; mkdir dir; chown 1:2 dir; chmod 2750 dir; ln file dir/hard
            setfattr -n user.a -v b file; setfattr -n trusted.t -v s file; setfacl -m u:77:rw dir/hard";
        net_raid_tests::process::sh(&cluster.path().join("V"), script);
        let look = "stat -c '%n %F %a %u %g %t %T %h' file fifo null link dir dir/hard; cat file dir/hard
            getfattr -d -m - file; getfacl -np file; echo x >null";
        let before = net_raid_tests::process::sh(&cluster.path().join("V"), look);
        assert!(before.contains("file regular file 4771 1234 5678 0 0 2"), "{before}");
        client.remount();
        assert_eq!(net_raid_tests::process::sh(&cluster.path().join("V"), look), before, "{array} after a remount");
    }
}

/// A brick of root's volume must not become readable or writable for others by chance.
#[test]
fn the_side_files_are_private() {
    let cluster = Cluster::start(2);
    let client = Client::new(cluster.path(), "c", &[Volume::new(&cluster, "V", Array::RAID1, 0)]);
    client.mount();
    let mode = fs::metadata(cluster[0].dir().join(".net_raid")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "mode of .net_raid: {mode:o}");
}
