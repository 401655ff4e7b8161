//! Every message, word by word.

use super::*;

/// Checks the messages for a text, of which `f:` is left out here.
#[track_caller]
fn check(text: &str, messages: &[&str]) {
    let lines: Vec<String> = messages.iter().map(|message| format!("f:{message}")).collect();
    assert_eq!(refused(text).to_string(), lines.join("\n"), "\n{text}");
}

/// Checks the message for one line below a volume that is right, which makes it line 5.
#[track_caller]
fn check_line(line: &str, message: &str, help: &str) {
    check(&format!("{VOLUME}{line}"), &[&format!("5: {message}: `{line}`; {help}")]);
}

/// Checks the message for the first of two servers.
#[track_caller]
fn check_server(server: &str, message: &str, help: &str) {
    let text = VOLUME.replace("h:1", server);
    check(&text, &[&format!("4: {message}: `servers = {server}, h:2`; {help}")]);
}

#[test]
fn files_without_a_volume() {
    let message = " no volume is defined; begin one with `diskname = NAME`";
    for text in ["", "\n", "# nothing", "\u{feff}", "timeout = 5"] {
        check(text, &[message]);
    }
}

#[test]
fn lines_that_are_no_entries() {
    check_line("whatever", "there is no `=`", "write `key = value`, or begin a comment with `#`");
    check_line("stall", "there is no `=`", "write `stall = VALUE`");
    check_line("timeout 20 s", "there is no `=`", "write `timeout = 20 s`");
    check_line("spares: h:9", "there is no `=`", "write `hotswap = h:9`");
    check_line("[volume]", "there is no `=`", "a volume begins with `diskname = NAME`");
    check_line("= 5", "there is no key before the `=`", "write `key = value`");
    check_line("=", "there is no key before the `=`", "write `key = value`");
    check_line("timeout =", "`timeout` has no value", "write `timeout = VALUE`");
    check_line("timeout = # 10", "`timeout` has no value", "write `timeout = VALUE`");
}

#[test]
fn unknown_keys() {
    let near = [
        ("serves = h:9", "serves", "servers"),
        ("Raid = 5", "Raid", "raid"),
        ("TIMEOUT = 5", "TIMEOUT", "timeout"),
        ("cache-size = 5M", "cache-size", "cache_size"),
        ("cache replacement = lru", "cache replacement", "cache_replacement"),
        ("spare = h:9", "spare", "hotswap"),
        ("mount_point = /b", "mount_point", "mountpoint"),
        ("error_log = /log", "error_log", "errorlog"),
        ("timout = 5", "timout", "timeout"),
    ];
    for (line, word, key) in near {
        check_line(line, &format!("unknown key `{word}`"), &format!("did you mean `{key}`?"));
    }
    let keys = "the keys are diskname, mountpoint, raid, servers, hotswap, cache_size, cache_replacement, timeout, stall, scrub, \
                errorlog";
    check_line("colour = red", "unknown key `colour`", keys);
    check_line("Größe = 1", "unknown key `Größe`", keys);
}

#[test]
fn a_misspelled_key_is_one_error() {
    check(
        &VOLUME.replace("servers", "server"),
        &["4: unknown key `server`: `server = h:1, h:2`; did you mean `servers`?"],
    );
    check(&VOLUME.replace("diskname", "disk"), &["1: unknown key `disk`: `disk = A`; did you mean `diskname`?"]);
    check(&VOLUME.replace("raid =", "raid"), &["3: there is no `=`: `raid 1`; write `raid = 1`"]);
    check(&VOLUME.replace(" A", ""), &["1: `diskname` has no value: `diskname =`; write `diskname = VALUE`"]);
}

#[test]
fn repeated_keys() {
    check_line("raid = 1", "`raid` is repeated", "line 3 has it already");
    check(
        &format!("cache_replacment = rlu\ncache_replacement = lru\n{VOLUME}"),
        &["2: `cache_replacement` is repeated: `cache_replacement = lru`; line 1 has it already"],
    );
}

#[test]
fn keys_before_the_first_volume() {
    check(
        &format!("servers = h:1, h:2\nmountpoint = /m\nhotswap =\n{VOLUME}"),
        &[
            "1: `servers` stands before the first volume: `servers = h:1, h:2`; \
             move it below the `diskname` line of its volume",
            "2: `mountpoint` stands before the first volume: `mountpoint = /m`; \
             move it below the `diskname` line of its volume",
            "3: `hotswap` stands before the first volume: `hotswap =`; move it below the `diskname` line of its volume",
        ],
    );
}

#[test]
fn missing_keys() {
    check(
        "diskname = A\n\ndiskname = B\nmountpoint = /b\nraid = 5\nservers = h:1, h:2, h:3",
        &[
            "1: the volume has no `mountpoint`: `diskname = A`; \
             add `mountpoint = /path/to/an/empty/directory` below this line",
            "1: the volume has no `raid`: `diskname = A`; add `raid = 1, 5 or 6` below this line",
            "1: the volume has no `servers`: `diskname = A`; add `servers = host:port, host:port, ...` below this line",
        ],
    );
}

#[test]
fn numbers() {
    let size = "write a whole number with K, M, G, T (powers of 1024) or nothing (bytes), as in `256M`";
    for text in ["big", "-1", "1.5G", "1024MB", "12X", "99999999999999999999", "M", "1 0M", "٣M"] {
        check_line(&format!("cache_size = {text}"), &format!("`{text}` is not a size"), size);
    }
    for text in ["0", "1023K", "17T", "18446744073709551615T"] {
        let message = format!("a cache of `{text}` is out of range");
        check_line(&format!("cache_size = {text}"), &message, "write a size from 1M to 16T");
    }
    let time = "write whole seconds as in `10`, or milliseconds as in `500ms`";
    for text in ["soon", "1.5", "10m", "-3", "+3", "10 S"] {
        check_line(&format!("timeout = {text}"), &format!("`{text}` is not a time"), time);
    }
    for text in ["0", "99ms", "86401", "18446744073709551615"] {
        let message = format!("the time `{text}` is out of range");
        check_line(&format!("timeout = {text}"), &message, "write a time from 100ms to 86400s");
    }
    check_line("scrub = 59s", "the time `59s` is out of range", "write a time from 1m to 365d, or `never`");
    check_line("scrub = 366d", "the time `366d` is out of range", "write a time from 1m to 365d, or `never`");
    let help = "write a whole number with d, h, m or s (days to seconds), as in `30d`, or `never`";
    for text in ["monthly", "1w", "d", "-1d", "99999999999999999999d"] {
        check_line(&format!("scrub = {text}"), &format!("`{text}` is not a time"), help);
    }
    check_line("stall = 19ms", "the time `19ms` is out of range", "write a time from 20ms to 3600s");
}

#[test]
fn stall_must_be_shorter_than_timeout() {
    let help = "a silent server is dropped before it is replaced: lower stall or raise timeout";
    check_line("stall = 10", "stall (10s) is not shorter than timeout (10s)", help);
    check(
        &format!("stall = 5\n{VOLUME}timeout = 500ms"),
        &[&format!("6: stall (5s) is not shorter than timeout (500ms): `timeout = 500ms`; {help}")],
    );
    // The same default for two volumes is one mistake.
    let other = VOLUME.replace("= A", "= B").replace("/a", "/b").replace("h:", "i:");
    check(
        &format!("timeout = 5\nstall = 6\n{VOLUME}{other}"),
        &[&format!("2: stall (6s) is not shorter than timeout (5s): `stall = 6`; {help}")],
    );
}

#[test]
fn words() {
    let lru = "`fifo` is not a way to replace what is cached";
    check_line("cache_replacement = fifo", lru, "write `lru`");
    check_line("errorlog = error.log", "the path is not absolute", "begin it with `/`");
    check_line("errorlog = ~/log", "the path is not absolute", "`~` is not expanded, write the whole path");
    let quoted = "write `errorlog = /a b`; blanks need no quotes";
    check_line("errorlog = \"/a b\"", "the quotes would be part of the value", quoted);
    check_line(
        "errorlog = /mnt/a/log",
        "the errorlog is inside the mountpoint of volume `A`",
        "log outside of all volumes",
    );
    let long = format!("errorlog = /{}", "x".repeat(4095));
    check_line(&long, "the path has 4096 bytes", "at most 4095 are allowed");
}

#[test]
fn levels() {
    let cases = [("0", "write 1, 5 or 6"), ("10", "write 1, 5 or 6"), ("RAID-6", "write `6`"), ("raid5", "write `5`")];
    for (text, help) in cases {
        let file = VOLUME.replace("raid = 1", &format!("raid = {text}"));
        check(&file, &[&format!("3: `{text}` is not a RAID level: `raid = {text}`; {help}")]);
    }
}

#[test]
fn names() {
    let check_name = |name: &str, message: &str, help: &str| {
        check(&VOLUME.replace("= A", &format!("= {name}")), &[&format!("1: {message}: `diskname = {name}`; {help}")]);
    };
    check_name("A B", "the name has the character ' ' in it", "leave out blanks and slashes");
    check_name("A/B", "the name has the character '/' in it", "leave out blanks and slashes");
    check_name(&"n".repeat(65), "the name has 65 bytes", "at most 64 are allowed");
}

#[test]
fn server_counts() {
    let cases = [
        (1, 0, None),
        (1, 1, Some("1 server is too few for RAID-1")),
        (1, 2, None),
        (1, 16, None),
        (1, 17, Some("17 servers are too many for RAID-1")),
        (5, 2, Some("2 servers are too few for RAID-5")),
        (5, 3, None),
        (5, 16, None),
        (5, 17, Some("17 servers are too many for RAID-5")),
        (6, 3, Some("3 servers are too few for RAID-6")),
        (6, 4, None),
        (6, 16, None),
        (6, 17, Some("17 servers are too many for RAID-6")),
    ];
    for (level, count, message) in cases.into_iter().filter(|(_, count, _)| *count > 0) {
        let list: Vec<String> = (1..=count).map(|port| format!("h:{port}")).collect();
        let line = format!("servers = {}", list.join(", "));
        let text = VOLUME.replace("raid = 1", &format!("raid = {level}")).replace("servers = h:1, h:2", &line);
        let min = match level {
            1 => 2,
            5 => 3,
            _ => 4,
        };
        match message {
            None => drop(parsed(&text)),
            Some(message) => check(&text, &[&format!("4: {message}: `{line}`; list {min} to 16")]),
        }
    }
}

#[test]
fn servers() {
    check_server("h", "`h` has no port", "write `h:port`");
    check_server("[::1]", "`[::1]` has no port", "write `[::1]:port`");
    for port in ["", "0", "65536", "x", "+1", "-1", "1.5", "99999999999"] {
        let message = format!("`{port}` is not a port");
        check_server(&format!("h:{port}"), &message, "write a number from 1 to 65535");
    }
    check_server("::1", "the IPv6 address `::1` is not in brackets", "write `[::1]:port`");
    check_server("fe80::1%eth0:7", "the IPv6 address `fe80::1%eth0` is not in brackets", "write `[fe80::1%eth0]:7`");
    check_server("[::g]:7", "`::g` is not an IPv6 address", "write for example `[::1]:port`");
    check_server("[127.0.0.1]:7", "`127.0.0.1` is not an IPv6 address", "write for example `[::1]:port`");
    check_server("[fe80::1%]:7", "`fe80::1%` is not an IPv6 address", "write for example `[::1]:port`");
    for address in ["127.0.0.256", "127.0.1", "1.2.3.4.5", "7", "a.7"] {
        let message = format!("`{address}` is not an IPv4 address");
        let help = "write four numbers from 0 to 255, as in `127.0.0.1`";
        check_server(&format!("{address}:7"), &message, help);
    }
    let long = "x".repeat(64);
    for host in ["", "-a", "a..b", ".", "a!", "größe", "[::1", &long] {
        let help = "write a host name or an IP address before the port";
        check_server(&format!("{host}:7"), &format!("`{host}` is not a host name"), help);
    }
    for address in ["0.0.0.0", "224.0.0.1"] {
        let help = "write the address under which this machine reaches it";
        check_server(&format!("{address}:7"), &format!("`{address}` is not the address of a server"), help);
    }
    check_server("h:1 i:1", "`h:1 i:1` is not one server", "separate servers with commas");
    check_server("h:1;i:1", "`h:1;i:1` is not one server", "separate servers with commas");
    check_server("tcp://h:1", "`tcp://h:1` is not a server", "write `host:port`, without a protocol and a path");
    let comma = "there is no server between two commas or after the last one";
    check_server("h:1,", comma, "remove that comma");
}

#[test]
fn every_bad_server_of_a_list_is_named() {
    check(
        &VOLUME.replace("h:1, h:2", "h:0, h, h:3,"),
        &[
            "4: there is no server between two commas or after the last one: `servers = h:0, h, h:3,`; remove that comma",
            "4: `0` is not a port: `servers = h:0, h, h:3,`; write a number from 1 to 65535",
            "4: `h` has no port: `servers = h:0, h, h:3,`; write `h:port`",
        ],
    );
}

#[test]
fn what_is_used_twice() {
    let second = "diskname = B\nmountpoint = /mnt/b\nraid = 1\nservers = i:1, i:2\n";
    let check_second = |from: &str, to: &str, message: &str| {
        check(&format!("{VOLUME}{}", second.replace(from, to)), &[message]);
    };
    check_second("= B", "= A", "5: a volume named `A` is there already: `diskname = A`; line 1 has it");
    let mountpoint = "6: the mountpoint is another volume's: `mountpoint = /mnt//a/`; line 2 has it";
    check_second("/mnt/b", "/mnt//a/", mountpoint);
    check_second("i:2", "H:1", "8: the server `h:1` is used already: `servers = i:1, H:1`; line 4 has it");
    check_line("hotswap = h:2", "the server `h:2` is used already", "line 4 has it");
    check_line("hotswap = i:1, I:1", "the server `i:1` is used already", "name it once in this line");
    let same = "[::1]:7, [0::1]:7";
    check(
        &VOLUME.replace("h:1, h:2", same),
        &[&format!("4: the server `[::1]:7` is used already: `servers = {same}`; name it once in this line")],
    );
    let spares = format!("{VOLUME}hotswap = s:1\n{second}hotswap = s:1\n");
    check(&spares, &["10: the server `s:1` is used already: `hotswap = s:1`; line 5 has it"]);
    // A name and its address are two spellings until someone resolves them.
    parsed(&VOLUME.replace("h:1, h:2", "localhost:1, 127.0.0.1:1"));
}

#[test]
fn everything_wrong_is_reported_at_once_in_the_order_of_lines() {
    check(
        "timeout = ten\r\n\r\ndiskname = A\r\nmountpont = /mnt/a\r\nraid = 5\r\nservers = h:1, h:x\r\ncolor = 1\r\n",
        &[
            "1: `ten` is not a time: `timeout = ten`; write whole seconds as in `10`, or milliseconds as in `500ms`",
            "4: unknown key `mountpont`: `mountpont = /mnt/a`; did you mean `mountpoint`?",
            "6: 2 servers are too few for RAID-5: `servers = h:1, h:x`; list 3 to 16",
            "6: `x` is not a port: `servers = h:1, h:x`; write a number from 1 to 65535",
            "7: unknown key `color`: `color = 1`; the keys are diskname, mountpoint, raid, servers, hotswap, cache_size, \
             cache_replacement, timeout, stall, scrub, errorlog",
        ],
    );
}

#[test]
fn control_characters_are_refused_and_spelled_out() {
    let text = format!("{VOLUME}errorlog = /\u{1b}[31m\u{0}\u{85}");
    check(&text, &["5: the control character \\u{1b} is not allowed: `errorlog = /\\u{1b}[31m\\u{0}`; remove it"]);
    let drawn = refused(&text).render(false);
    assert!(drawn.contains("/?[31m?"), "{drawn}");
}

#[test]
fn a_drawing_shows_the_line_and_has_escape_codes_on_a_terminal_only() {
    let errors = refused(&format!("{VOLUME}stal = 1\ntimeout = ü\n"));
    let plain = errors.render(false);
    for part in ["f:5:1", "5 | stal = 1", "unknown key `stal`", "did you mean `stall`?", "f:6:11", "6 | timeout = ü"] {
        assert!(plain.contains(part), "{part} in {plain}");
    }
    assert!(plain.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()), "{plain}");
    let coloured = errors.render(true);
    assert!(coloured.contains("\u{1b}["), "{coloured}");
}

#[test]
fn files_that_are_no_text() {
    let path = Path::new("f");
    let message = |bytes: &[u8]| decode(path, bytes.to_vec()).expect_err("no text").to_string();
    assert_eq!(
        message(b"timeout = 5\nerrorlog = /\xff\xfe\n"),
        "f:2: the byte 0xff is not UTF-8: `errorlog = /\u{fffd}\u{fffd}`; save the file as UTF-8"
    );
    assert_eq!(
        message(b"timeout = \xc3"),
        "f:1: the byte 0xc3 is not UTF-8: `timeout = \u{fffd}`; save the file as UTF-8"
    );
    assert_eq!(message(b"\xff\xfet\0"), "f: the file is UTF-16; save it as UTF-8");
    assert_eq!(message(&vec![b' '; 1024 * 1024 + 1]), "f: the file is too long; a configuration has at most 1 MiB");
    let drawn = decode(path, b"\x80".to_vec()).expect_err("no text").render(false);
    assert!(drawn.contains("0x80"), "{drawn}");
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let missing = dir.path().join("no.conf");
    let message = load(&missing).expect_err("there is no file").to_string();
    assert_eq!(message, format!("{}: cannot be read: No such file or directory (os error 2)", missing.display()));
    let message = load(dir.path()).expect_err("a directory").to_string();
    assert_eq!(message, format!("{}: cannot be read: Is a directory (os error 21)", dir.path().display()));
    let drawn = load(&missing).expect_err("there is no file").render(false);
    assert!(drawn.contains("no.conf"), "{drawn}");
    let endless = load(Path::new("/dev/zero")).expect_err("endless").to_string();
    assert_eq!(endless, "/dev/zero: the file is too long; a configuration has at most 1 MiB");
}
