//! What is accepted, and what it means.

use super::*;

/// The example that defined the format, with its spelling.
const FIRST_EXAMPLE: &str = "\
errorlog = /path/to/error.log
cache_size = 1024M
cache_replacment = rlu
timeout = 10

diskname = STORAGE1
mountpoint = /path/to/mountpoint1
raid = 1
servers = 127.0.0.1:10001, 127.0.0.1:10002
hotswap = 127.0.0.1:11111

diskname = STORAGE2
mountpoint = /path/to/mountpoint2
raid = 5
servers = 127.0.0.1:10011, 127.0.0.1:10012, 127.0.0.1:10013
hotswap = 127.0.0.1:22222
";

fn first_example() -> Config {
    let volume = |name: &str, mountpoint: &str, level, servers: &[&str], spare| VolumeConfig {
        name: name.into(),
        mountpoint: mountpoint.into(),
        level,
        servers: servers.iter().copied().map(server).collect(),
        spares: vec![server(spare)],
        cache_size: 1024 << 20,
        timeout: Duration::from_secs(10),
        stall: Duration::from_secs(2),
        scrub: Some(Duration::from_secs(30 * 86_400)),
        errorlog: Some("/path/to/error.log".into()),
        force: false,
        fast: false,
    };
    let mirror = ["127.0.0.1:10001", "127.0.0.1:10002"];
    let parity = ["127.0.0.1:10011", "127.0.0.1:10012", "127.0.0.1:10013"];
    Config {
        errorlog: Some("/path/to/error.log".into()),
        volumes: vec![
            volume("STORAGE1", "/path/to/mountpoint1", Level::Raid1, &mirror, "127.0.0.1:11111"),
            volume("STORAGE2", "/path/to/mountpoint2", Level::Raid5, &parity, "127.0.0.1:22222"),
        ],
    }
}

#[test]
fn the_first_example_is_accepted_however_it_is_laid_out() {
    let lines: Vec<&str> = FIRST_EXAMPLE.lines().collect();
    let tabs: Vec<String> = lines.iter().map(|line| format!("\t{} \t ", line.replace(" = ", "\t=\t"))).collect();
    let layouts = [
        FIRST_EXAMPLE.to_owned(),
        lines.join("\r\n"),
        lines.join("\n\n\n") + "\n\n",
        FIRST_EXAMPLE.replace("\n\n", "\n").trim_end().to_owned(),
        FIRST_EXAMPLE.replace(' ', ""),
        format!("\u{feff}{FIRST_EXAMPLE}"),
        format!("\u{feff}\r\n# first\r\n{}", lines.join(" # why\r\n")),
        tabs.join("\n"),
        FIRST_EXAMPLE.replace("cache_replacment = rlu", "cache_replacement = LRU"),
    ];
    for text in layouts {
        assert_eq!(parsed(&text), first_example(), "{text}");
    }
}

fn config_file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(name);
    std::fs::read_to_string(path).expect("a file of configs can be read")
}

#[test]
fn every_file_in_configs_is_accepted() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).expect("configs is a directory") {
        let name = entry.expect("configs can be read").file_name().to_string_lossy().into_owned();
        assert!(!parsed(&config_file(&name)).volumes.is_empty());
        names.push(name);
    }
    for name in ["example.conf", "raid1.conf", "raid5.conf", "raid6.conf"] {
        assert!(names.iter().any(|there| there == name), "{name} is missing");
    }
}

#[test]
fn the_commented_example_has_every_key() {
    let text = config_file("example.conf");
    for key in key::Key::list().split(", ") {
        assert!(text.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key} is missing");
    }
}

/// The only volume of a file that has these lines in its volume.
fn volume_with(lines: &str) -> VolumeConfig {
    parsed(&format!("{VOLUME}{lines}")).volumes.remove(0)
}

#[test]
fn absent_keys_have_defaults() {
    let volume = volume_with("");
    assert_eq!(volume.cache_size, 256 << 20);
    assert_eq!(volume.timeout, Duration::from_secs(10));
    assert_eq!(volume.stall, Duration::from_secs(2));
    assert_eq!(volume.spares, []);
    assert_eq!(volume.errorlog, None);
    assert_eq!(volume_with("hotswap =").spares, []);
}

#[test]
fn scrub_is_a_time_or_never() {
    let scrub = |line: &str| volume_with(line).scrub.map(|time| time.as_secs());
    for (line, seconds) in [
        ("", Some(30 * 86_400)),
        ("scrub = 30d", Some(30 * 86_400)),
        ("scrub = 36 h", Some(36 * 3_600)),
        ("scrub = 1m", Some(60)),
        ("scrub = 90s", Some(90)),
        ("scrub = 90", Some(90)),
        ("scrub = 365d", Some(365 * 86_400)),
        ("scrub = never", None),
        ("scrub = OFF", None),
    ] {
        assert_eq!(scrub(line), seconds, "{line}");
    }
    let config = parsed(&format!(
        "scrub = 7d\n{VOLUME}scrub = never\n{}",
        VOLUME.replace("A\n", "B\n").replace("/a", "/b").replace("h:", "i:")
    ));
    assert_eq!(config.volumes[0].scrub, None);
    assert_eq!(config.volumes[1].scrub, Some(Duration::from_secs(7 * 86_400)));
}

#[test]
fn a_stall_that_nobody_asked_for_gives_way_to_a_short_timeout() {
    assert_eq!(volume_with("timeout = 1").stall, Duration::from_millis(500));
    assert_eq!(volume_with("timeout = 4").stall, Duration::from_secs(2));
    assert_eq!(volume_with("timeout = 100ms").stall, Duration::from_millis(50));
}

#[test]
fn defaults_hold_for_all_volumes_that_do_not_say_otherwise() {
    let config = parsed(
        "raid = 5\ncache_size = 1G\ntimeout = 7\nstall = 3\nerrorlog = /log\n\
         diskname = A\nmountpoint = /mnt/a\nservers = h:1, h:2, h:3\n\
         diskname = B\nmountpoint = /mnt/b\nservers = h:4, h:5\n\
         raid = 1\ncache_size = 2M\ntimeout = 1\nstall = 20ms\nerrorlog = /b.log\n",
    );
    let [a, b] = config.volumes.as_slice() else { panic!("two volumes") };
    assert_eq!((a.level, a.cache_size, a.timeout.as_secs(), a.stall.as_secs()), (Level::Raid5, 1 << 30, 7, 3));
    assert_eq!((b.level, b.cache_size, b.timeout.as_secs(), b.stall.as_millis()), (Level::Raid1, 2 << 20, 1, 20));
    assert_eq!(config.errorlog.as_deref(), Some(Path::new("/log")));
    assert_eq!(a.errorlog, config.errorlog);
    assert_eq!(b.errorlog.as_deref(), Some(Path::new("/b.log")));
}

#[test]
fn sizes_are_powers_of_1024() {
    let sizes = [("1048576", 1 << 20), ("1024K", 1 << 20), ("3m", 3 << 20), ("2 G", 2 << 30), ("16T", 16 << 40)];
    for (text, bytes) in sizes {
        assert_eq!(volume_with(&format!("cache_size = {text}")).cache_size, bytes, "{text}");
    }
}

#[test]
fn times_are_seconds_or_milliseconds() {
    for (text, ms) in [("3", 3_000), ("3s", 3_000), ("3 s", 3_000), ("500ms", 500), ("86400", 86_400_000)] {
        let volume = volume_with(&format!("timeout = {text}"));
        assert_eq!(volume.timeout, Duration::from_millis(ms), "{text}");
    }
}

#[test]
fn paths_and_names_may_hold_anything_but_a_comment() {
    let cases = [("/mnt/my files", "a b"), ("/mnt/a=b", "="), ("/mnt/a#b, c", "#"), ("/mnt/größe", "ö"), ("/", "/")];
    for (path, what) in cases {
        let text = VOLUME.replace("/mnt/a", path);
        assert_eq!(parsed(&text).volumes[0].mountpoint, Path::new(path), "{what}");
    }
    assert_eq!(parsed(&VOLUME.replace("= A", "= A#1=ö")).volumes[0].name, "A#1=ö");
}

#[test]
fn addresses_have_one_spelling() {
    let spellings = [
        ("LocalHost:1", "localhost:1"),
        ("a-b_c.example.org.:65535", "a-b_c.example.org.:65535"),
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("[::1]:80", "[::1]:80"),
        ("[0:0:0:0:0:0:0:1]:0080", "[::1]:80"),
        ("[2001:DB8::A]:80", "[2001:db8::a]:80"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
        ("[fe80::1%eth0]:80", "[fe80::1%eth0]:80"),
    ];
    for (text, spelling) in spellings {
        let address = server(text);
        assert_eq!(address.to_string(), spelling);
        assert_eq!(server(spelling), address);
    }
}
