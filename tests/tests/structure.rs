//! What ARCHITECTURE.md says is absent is absent: rules over the project's text, without building or mounting anything.
//!
//! The rules are data, the checks are a few lines each, and every check has an example that it must find.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Words that must not appear below `within`, except in files that say why.
struct Rule {
    what: &'static str,
    within: &'static [&'static str],
    words: &'static [&'static str],
    except: &'static [(&'static str, &'static str)],
}

const CRATES: [&str; 5] = ["proto", "raid", "server", "client", "tests"];
/// This file, which names all that it looks for.
const THIS: &str = "tests/tests/structure.rs";
const PRODUCT: &[&str] = &["proto/src", "raid/src", "server/src", "client/src"];

/// What a simulation runs: a client's volume and file system, a server's session and brick, and all below them.
const CORES: &[&str] = &[
    "proto/src",
    "raid/src",
    "server/src/brick",
    "server/src/session",
    "client/src/cache",
    "client/src/conn",
    "client/src/fs",
    "client/src/layout",
    "client/src/locks",
    "client/src/volume",
    "client/src/world",
];

const RULES: &[Rule] = &[
    Rule {
        what: "unsafe code is in the files named after an instruction set",
        within: &["proto/src", "raid/src", "server/src", "client/src", "tests/src", "tests/tests"],
        words: &["unsafe"],
        except: &[
            ("raid/src/digest/avx2.rs", "instruction set"),
            ("raid/src/digest/avx512.rs", "instruction set"),
            ("raid/src/digest/neon.rs", "instruction set"),
            ("raid/src/digest/sse2.rs", "instruction set"),
            ("raid/src/parity/avx2.rs", "instruction set"),
            ("raid/src/parity/gfni.rs", "instruction set"),
            ("raid/src/parity/neon.rs", "instruction set"),
            ("client/src/daemon/background.rs", "fork(2), for which nix has no safe function"),
            ("server/src/disk/real/write_back.rs", "sync_file_range(2), for which no library has a safe function"),
            ("tests/src/fsops.rs", "mmap(2), which the tests of shared mappings are about"),
        ],
    },
    Rule {
        what: "fuser is known to the front end alone",
        within: &["client/src"],
        words: &["fuser"],
        except: &[
            ("client/src/fuse", "the front end"),
            ("client/src/daemon/logging.rs", "its log target is filtered by name"),
        ],
    },
    Rule {
        what: "cores take clock, threads and randomness from outside",
        within: CORES,
        words: &[
            "SystemTime",
            "std::time::Instant",
            "std::thread::spawn",
            "thread::spawn",
            "std::thread::Builder",
            "thread::Builder",
            "getrandom",
        ],
        except: &[("client/src/conn/tcp.rs", "it is the outside")],
    },
    Rule {
        what: "cores touch no file, process or socket of the machine",
        within: CORES,
        words: &[
            "std::fs",
            "std::process",
            "std::env",
            "tokio::fs",
            "tokio::net",
            "tokio::process",
            "std::net::TcpStream",
        ],
        except: &[
            ("client/src/conn/tcp.rs", "it is the outside"),
            ("client/src/conn/host.rs", "it is the outside: processes of this machine"),
            ("client/src/fs/caller.rs", "groups of a caller, which FUSE does not tell, are in /proc"),
        ],
    },
    Rule {
        what: "nothing in the product sleeps on a thread",
        within: PRODUCT,
        words: &["thread::sleep", "std::thread::sleep"],
        except: &[],
    },
    Rule {
        what: "positions know no bytes, and plans do no I/O",
        within: &["client/src/layout", "client/src/volume/plan"],
        words: &["Bytes", "BytesMut", "Vec<u8>", "net_raid_raid", "tokio", "async", "await"],
        except: &[],
    },
    Rule {
        what: "a brick knows no redundancy",
        within: &["server/src/brick", "server/src/disk", "server/src/session"],
        words: &["net_raid_raid", "redundancy", "data_units", "members_needed", "quorum"],
        except: &[],
    },
];

/// Crates of ours that a crate may use, apart from its tests.
const DEPENDENCIES: [(&str, &[&str]); 5] = [
    ("proto", &[]),
    ("raid", &[]),
    ("server", &["net_raid_proto"]),
    ("client", &["net_raid_proto", "net_raid_raid"]),
    // The tests see the programs only.
    ("tests", &[]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the project's directory")
}

/// All files of the project with these extensions, by their path in it.
fn files(extensions: &[&str]) -> Vec<(String, String)> {
    let root = root();
    let (mut found, mut waiting) = (Vec::new(), vec![root.clone()]);
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry")) {
            let (path, name) = (entry.path(), entry.file_name().into_string().expect("a name in UTF-8"));
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    waiting.push(path);
                }
            } else if extensions.iter().any(|extension| path.extension().is_some_and(|e| e == *extension)) {
                let text = fs::read_to_string(&path).expect("a text");
                found.push((path.strip_prefix(&root).expect("below the root").display().to_string(), text));
            }
        }
    }
    found.sort();
    found
}

/// Whether `path` is the module `prefix`, or in it.
fn is_within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
}

fn is_test_module(path: &str) -> bool {
    path.contains("/src/") && (path.ends_with("/tests.rs") || path.contains("/tests/"))
}

/// Code without comments and without the test module at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let comment = |line: &&str| !line.trim_start().starts_with("//");
    let lines = text.lines().filter(comment).map(|line| line.split(" // ").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `word` stands in `text`, not as a part of a longer word.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Paths that `use` lines name, each written out: `use a::{b, c::{d, e}}` names `a::b`, `a::c::d` and `a::c::e`.
fn used_paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ") {
        if code[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let statement = code[at + 4..].split(';').next().unwrap_or_default();
        expand("", statement, &mut paths);
    }
    paths
}

fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let (mut depth, mut start) = (0, 0);
    let mut branches = Vec::new();
    for (at, c) in tree.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                branches.push(&tree[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    branches.push(&tree[start..]);
    for branch in branches.into_iter().map(str::trim).filter(|branch| !branch.is_empty()) {
        match branch.split_once('{') {
            Some((stem, rest)) => {
                let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
                expand(&format!("{prefix}{}", stem.trim()), inner, paths);
            }
            None => paths.push(format!("{prefix}{}", branch.split(" as ").next().unwrap_or(branch).trim())),
        }
    }
}

/// Words of a rule that a text names, spelled out or by `use`.
fn violations<'a>(rule: &'a Rule, text: &str) -> Vec<&'a str> {
    let code = code(text);
    let used = used_paths(&code).join("\n");
    rule.words.iter().copied().filter(|word| has_word(&code, word) || has_word(&used, word)).collect()
}

fn is_excepted(rule: &Rule, path: &str) -> bool {
    rule.except.iter().any(|(prefix, _)| path == *prefix || is_within(path, prefix))
}

#[test]
fn what_is_said_to_be_absent_is_absent() {
    let files = files(&["rs"]);
    let mut found = Vec::new();
    for rule in RULES {
        let seen = |path: &str| rule.within.iter().any(|prefix| is_within(path, prefix));
        for (path, text) in files.iter().filter(|(path, _)| seen(path) && !is_test_module(path)) {
            if is_excepted(rule, path) || path == THIS {
                continue;
            }
            found.extend(violations(rule, text).into_iter().map(|word| format!("{path}: `{word}`, but {}", rule.what)));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// An exception that nothing needs any more, or a directory that was renamed, would make a rule blind.
#[test]
fn rules_and_exceptions_are_about_something() {
    let files = files(&["rs"]);
    let mut idle = Vec::new();
    for rule in RULES {
        for prefix in rule.within {
            if !files.iter().any(|(path, _)| is_within(path, prefix)) {
                idle.push(format!("{prefix}: no such module"));
            }
        }
        for (prefix, _) in rule.except {
            let needs = |(path, text): &&(String, String)| {
                (path == prefix || is_within(path, prefix)) && !violations(rule, text).is_empty()
            };
            if !files.iter().any(|file| needs(&file)) {
                idle.push(format!("{prefix}: needs no exception from \"{}\"", rule.what));
            }
        }
    }
    assert!(idle.is_empty(), "\n{}", idle.join("\n"));
}

/// Modules that a lib.rs declares, lowest first.
fn modules(lib: &str) -> Vec<&str> {
    lib.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')).collect()
}

/// Modules of the own crate that a file names, from `crate::` and, at the top level, from `super::`.
fn named_modules(path: &str, code: &str) -> BTreeSet<String> {
    let top_level = path.matches('/').count() == 2;
    let mut paths = used_paths(code);
    for start in ["crate::", "super::"] {
        paths.extend(
            code.match_indices(start)
                .map(|(at, _)| code[at..].chars().take_while(|c| is_word(*c) || *c == ':').collect::<String>()),
        );
    }
    let module = |path: &String| {
        let rest = path.strip_prefix("crate::").or_else(|| path.strip_prefix("super::").filter(|_| top_level))?;
        rest.split("::").next().map(str::to_owned)
    };
    paths.iter().filter_map(module).collect()
}

/// Names of later modules in a crate's files.
fn wrong_order(name: &str, lib: &str, files: &[(String, String)]) -> Vec<String> {
    let order = modules(lib);
    let place = |module: &str| order.iter().position(|other| *other == module);
    let mut wrong = Vec::new();
    for (path, text) in files {
        let Some(rest) = path.strip_prefix(&format!("{name}/src/")).filter(|_| !is_test_module(path)) else { continue };
        let own = rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs");
        let Some(here) = place(own) else { continue };
        let later = named_modules(path, &code(text)).into_iter().filter(|module| place(module) > Some(here));
        wrong.extend(later.map(|module| format!("{path} names {module}, which stands after {own} in lib.rs")));
    }
    wrong
}

#[test]
fn modules_name_only_those_above_them() {
    let files = files(&["rs"]);
    let mut wrong = Vec::new();
    for name in CRATES {
        let (_, lib) = files.iter().find(|(path, _)| *path == format!("{name}/src/lib.rs")).expect("a lib.rs");
        assert!(!modules(lib).is_empty(), "{name} has no modules");
        wrong.extend(wrong_order(name, lib, &files));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Crates of ours in `[dependencies]`.
fn dependencies(manifest: &str) -> BTreeSet<&str> {
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    lines.filter(|line| line.starts_with("net_raid_")).filter_map(|line| line.split(['.', ' ', '=']).next()).collect()
}

#[test]
fn client_and_server_never_see_each_other() {
    for (name, allowed) in DEPENDENCIES {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        assert_eq!(
            dependencies(&manifest),
            allowed.iter().copied().collect(),
            "{name} depends on other crates of ours"
        );
    }
}

/// Names in a text that look like files of this project: their first part is something at its top.
fn project_paths<'a>(text: &'a str, top: &BTreeSet<String>) -> Vec<&'a str> {
    let is_part =
        |c: char| c.is_alphanumeric() || matches!(c, '.' | '/' | '_' | '-' | '*' | '$' | '<' | '>' | '{' | '}');
    let names =
        text.split(|c: char| !is_part(c)).map(|name| name.trim_end_matches(['.', '/']).trim_start_matches("./"));
    let pattern = |name: &&str| !name.contains(['*', '$', '<', '>', '{', '}']);
    let ours = |name: &&str| match name.split_once('/') {
        Some((first, _)) => top.contains(first),
        None => name.ends_with(".md") || name.starts_with("LICENSE-"),
    };
    names.filter(pattern).filter(ours).collect()
}

#[test]
fn documents_name_only_files_that_are_there() {
    let root = root();
    let top: BTreeSet<String> =
        CRATES.iter().chain(&["configs", "scripts", "docs", ".ci"]).map(|s| s.to_string()).collect();
    let mut missing = Vec::new();
    for (path, text) in files(&["md"]) {
        let beside = root.join(&path).parent().expect("a directory").to_owned();
        let there = |name: &&str| root.join(name).exists() || beside.join(name).exists();
        missing.extend(
            project_paths(&text, &top).iter().filter(|name| !there(name)).map(|name| format!("{path}: {name}")),
        );
    }
    for (path, text) in files(&["rs"]).into_iter().filter(|(path, _)| path != THIS) {
        let docs =
            project_paths(&text, &["docs".to_owned()].into()).into_iter().filter(|name| name.starts_with("docs/"));
        missing.extend(docs.filter(|name| !root.join(name).exists()).map(|name| format!("{path}: {name}")));
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

/// A check that finds nothing in what is wrong would find nothing anywhere.
#[test]
fn each_check_finds_what_it_is_for() {
    let rule = |what: &str| RULES.iter().find(|rule| rule.what.starts_with(what)).expect("such a rule");
    let clock = rule("cores take clock");
    assert_eq!(violations(clock, "use std::time::{Duration, Instant};"), ["std::time::Instant"]);
    assert_eq!(violations(clock, "let t = std::time::SystemTime::now();"), ["SystemTime"]);
    assert_eq!(violations(clock, "use std::thread::{self, spawn};"), ["std::thread::spawn", "thread::spawn"]);
    assert_eq!(violations(clock, "use tokio::time::Instant;\n// std::time::Instant, getrandom\n"), [""; 0]);
    assert_eq!(violations(rule("unsafe"), "#[deny(unsafe_code)]\nfn f() {}"), [""; 0]);
    assert_eq!(violations(rule("unsafe"), "fn f() { unsafe { g() } }"), ["unsafe"]);
    assert_eq!(violations(rule("fuser"), "// fuser\nconst P: &str = \"fusermount3\";\n"), [""; 0]);
    assert_eq!(violations(rule("fuser"), "use fuser::Session;"), ["fuser"]);
    let tests = "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::thread::sleep;\n}\n";
    assert_eq!(violations(rule("nothing in the product"), tests), [""; 0]);
    assert_eq!(violations(rule("nothing in the product"), "thread::sleep(d);"), ["thread::sleep"]);

    let lib = "//! Lowest first.\n\npub mod low;\n\nmod high;\n";
    let file = |path: &str, text: &str| vec![(path.to_owned(), text.to_owned())];
    assert_eq!(wrong_order("x", lib, &file("x/src/low.rs", "use crate::high::H;")).len(), 1);
    assert_eq!(wrong_order("x", lib, &file("x/src/low/deep.rs", "use crate::{low::L, high::{H, I}};")).len(), 1);
    assert_eq!(wrong_order("x", lib, &file("x/src/low.rs", "fn f() { super::high::g() }")).len(), 1);
    assert_eq!(wrong_order("x", lib, &file("x/src/low/deep.rs", "use super::high;")).len(), 0);
    assert_eq!(wrong_order("x", lib, &file("x/src/high.rs", "use crate::low::L;")).len(), 0);
    assert_eq!(wrong_order("x", lib, &file("x/src/low/tests.rs", "use crate::high::H;")).len(), 0);

    let manifest = "[package]\nname = \"a\"\n\n[dependencies]\nnet_raid_proto.workspace = true\n\n[dev-dependencies]\nnet_raid_raid = { path = \"\" }\n";
    assert_eq!(dependencies(manifest), ["net_raid_proto"].into());

    let top = ["docs".to_owned(), "client".to_owned()].into();
    let text = "See `docs/a.md`, ./docs/b, README.md and client/src/x.rs. Not fs/fuse/file.c, docs/*.md or 1/2.";
    assert_eq!(project_paths(text, &top), ["docs/a.md", "docs/b", "README.md", "client/src/x.rs"]);
}
