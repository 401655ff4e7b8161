//! What holds for any text, and for any configuration.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// A text made of what the parser looks for, which gets further into it than noise does.
fn config_like() -> impl Strategy<Value = String> {
    let words = select(vec![
        "diskname",
        "mountpoint",
        "raid",
        "servers",
        "hotswap",
        "cache_size",
        "timeout",
        "stall",
        "scrub",
        "errorlog",
        "=",
        " = ",
        ",",
        ", ",
        "\n",
        "\n",
        "\r\n",
        "#",
        " ",
        "\t",
        "\u{feff}",
        "\"",
        "'",
        "[",
        "]",
        "[::1]:1",
        "h:1",
        "h:2",
        "/mnt/a",
        "~",
        "A",
        "1",
        "5",
        "6",
        "10",
        "500ms",
        "1G",
        "\0",
        "\u{1b}",
        "ü",
        "\u{2028}",
        "%",
        ":",
        "-",
        "99999999999999999999",
    ]);
    proptest::collection::vec(words, 0..60).prop_map(|words| words.concat())
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,10}(\\.[a-z][a-z0-9]{0,5}){0,2}",
        any::<[u8; 4]>()
            .prop_filter("an address of a host", |ip| *ip != [0; 4] && ip[0] & 0xf0 != 0xe0)
            .prop_map(|ip| std::net::Ipv4Addr::from(ip).to_string()),
        any::<u64>().prop_map(|low| std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(low)).to_string()),
    ]
}

/// A path of any text that a line can hold.
fn path() -> impl Strategy<Value = PathBuf> {
    "/[^\\p{C}\\s#][^\\p{C}]{0,20}[^\\p{C}\\s]"
        .prop_filter("no comment", |path| !path.contains('#'))
        .prop_map(PathBuf::from)
}

/// A volume without the parts that must differ from those of others.
fn volume() -> impl Strategy<Value = VolumeConfig> {
    let level = select(vec![Level::Raid1, Level::Raid5, Level::Raid6]);
    (level, 0..=12_usize, 0..4_usize, 1_u64 << 20..1 << 44, 100_u64..86_400_000, 20_u64..3_600_000).prop_flat_map(
        |(level, extra, spares, cache_size, timeout_ms, stall_ms)| {
            let count = level.members_min() + extra;
            let hosts = proptest::collection::vec(host(), count + spares);
            let errorlog = proptest::option::of(path());
            ("[A-Za-z0-9_=,.-]{1,20}", path(), hosts, errorlog).prop_map(move |(name, mountpoint, hosts, errorlog)| {
                let mut servers: Vec<_> = hosts.into_iter().map(|host| ServerAddr { host, port: 1 }).collect();
                let spares = servers.split_off(count);
                let timeout = Duration::from_millis(timeout_ms);
                let stall = Duration::from_millis(stall_ms.min(timeout_ms - 1));
                VolumeConfig {
                    name,
                    mountpoint,
                    level,
                    servers,
                    spares,
                    cache_size,
                    timeout,
                    stall,
                    scrub: Some(Duration::from_secs(30 * 86_400)),
                    errorlog,
                    force: false,
                    fast: false,
                }
            })
        },
    )
}

/// An absolute path moved below `dir`, with whatever it ends with: `Path::join` would take a last slash away.
fn below(dir: &str, path: &Path) -> PathBuf {
    PathBuf::from(format!("{dir}{}", path.display()))
}

/// A valid configuration: what must differ gets a number.
fn config() -> impl Strategy<Value = Config> {
    (proptest::collection::vec(volume(), 1..4), any::<bool>()).prop_map(|(mut volumes, has_log)| {
        let errorlog = has_log.then(|| PathBuf::from("/log"));
        let mut port = 0;
        for (index, volume) in volumes.iter_mut().enumerate() {
            volume.name += &format!("-{index}");
            volume.mountpoint = below(&format!("/mnt{index}"), &volume.mountpoint);
            let own = volume.errorlog.take().map(|path| below("/logs", &path));
            volume.errorlog = own.or_else(|| errorlog.clone());
            for server in volume.servers.iter_mut().chain(&mut volume.spares) {
                port += 1;
                server.port = port;
            }
        }
        Config { errorlog, volumes }
    })
}

/// The file that says so.
fn rendered(config: &Config) -> String {
    let list = |servers: &[ServerAddr]| servers.iter().map(ServerAddr::to_string).collect::<Vec<_>>().join(", ");
    let log =
        |path: &Option<PathBuf>| path.as_ref().map_or(String::new(), |path| format!("errorlog = {}\n", path.display()));
    let mut text = log(&config.errorlog);
    for volume in &config.volumes {
        text += &format!(
            "diskname = {}\nmountpoint = {}\nraid = {}\nservers = {}\nhotswap = {}\n\
             cache_size = {}\ntimeout = {}ms\nstall = {}ms\n{}",
            volume.name,
            volume.mountpoint.display(),
            volume.level.number(),
            list(&volume.servers),
            list(&volume.spares),
            volume.cache_size,
            volume.timeout.as_millis(),
            volume.stall.as_millis(),
            log(&volume.errorlog),
        );
    }
    text
}

/// Every way to show the errors of a text.
fn show(errors: &ConfigErrors) {
    assert!(!errors.errors().is_empty());
    assert_eq!(errors.to_string().lines().count(), errors.errors().len());
    assert!(!errors.render(false).contains('\u{1b}'));
    errors.render(true);
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in prop_oneof![any::<String>(), config_like()]) {
        if let Err(errors) = parse(Path::new("f"), &text) {
            show(&errors);
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in any::<Vec<u8>>()) {
        if let Err(errors) = decode(Path::new("f"), bytes) {
            show(&errors);
        }
    }

    #[test]
    fn a_rendered_configuration_is_parsed_to_the_same(config in config()) {
        prop_assert_eq!(parsed(&rendered(&config)), config);
    }

    #[test]
    fn a_server_is_parsed_to_the_same(host in host(), port in 1_u16..) {
        let address = ServerAddr { host, port };
        prop_assert_eq!(server(&address.to_string()), address);
    }
}
