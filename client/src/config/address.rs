//! Server addresses: `host:port` with a host name, an IPv4 address or an IPv6 address in brackets.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::value::Rejected;

/// The longest host name that DNS can carry, in bytes.
const MAX_HOST_LEN: usize = 253;
/// The longest part between two dots of a host name, in bytes.
const MAX_LABEL_LEN: usize = 63;

/// Where a server listens.
///
/// Parsing brings the host into one spelling (lower case, shortest form of an IP address), so that two values are equal
/// exactly if they name the same address. Names are not resolved: `localhost` and `127.0.0.1` are different.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerAddr {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// The TCP port, never 0.
    pub port: u16,
}

/// `host:port`, or `[v6]:port`: what the parser takes.
impl fmt::Display for ServerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for ServerAddr {
    type Err = Rejected;

    fn from_str(text: &str) -> Result<Self, Rejected> {
        if text.contains(char::is_whitespace) || text.contains(';') {
            return Err(Rejected::new(format!("`{text}` is not one server"), "separate servers with commas"));
        }
        if text.contains('/') {
            let message = format!("`{text}` is not a server");
            return Err(Rejected::new(message, "write `host:port`, without a protocol and a path"));
        }
        let (host, port) = split(text)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => ipv6(address)?,
            None => name_or_ipv4(host)?,
        };
        Ok(Self { host, port: self::port(port)? })
    }
}

/// Host, possibly in brackets, and port.
fn split(text: &str) -> Result<(&str, &str), Rejected> {
    if text.parse::<Ipv6Addr>().is_ok() {
        let message = format!("the IPv6 address `{text}` is not in brackets");
        return Err(Rejected::new(message, format!("write `[{text}]:port`")));
    }
    let end_of_host = text.find(']').unwrap_or(0);
    match text[end_of_host..].rfind(':') {
        Some(colon) => {
            let (host, port) = text.split_at(end_of_host + colon);
            if host.contains(':') && !host.starts_with('[') {
                let help = format!("write `[{host}]{port}`");
                return Err(Rejected::new(format!("the IPv6 address `{host}` is not in brackets"), help));
            }
            Ok((host, &port[1..]))
        }
        None => Err(Rejected::new(format!("`{text}` has no port"), format!("write `{text}:port`"))),
    }
}

fn port(text: &str) -> Result<u16, Rejected> {
    let all_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if all_digits && port != 0 => Ok(port),
        _ => Err(Rejected::new(format!("`{text}` is not a port"), "write a number from 1 to 65535")),
    }
}

/// An IPv6 address, with a zone (`fe80::1%eth0`) if need be.
fn ipv6(text: &str) -> Result<String, Rejected> {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    let is_zone = |zone: &str| {
        !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    match (address.parse::<Ipv6Addr>(), zone) {
        (Ok(address), None) => address_of_a_host(address.to_canonical()),
        (Ok(address), Some(zone)) if is_zone(zone) => Ok(format!("{address}%{zone}")),
        _ => Err(Rejected::new(format!("`{text}` is not an IPv6 address"), "write for example `[::1]:port`")),
    }
}

fn name_or_ipv4(text: &str) -> Result<String, Rejected> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return address_of_a_host(address.into());
    }
    // No top-level domain is a number, so this is a mistyped address and not a name.
    let last_label = text.rsplit('.').next().unwrap_or_default();
    if !last_label.is_empty() && last_label.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!("`{text}` is not an IPv4 address");
        return Err(Rejected::new(message, "write four numbers from 0 to 255, as in `127.0.0.1`"));
    }
    let labels = text.strip_suffix('.').unwrap_or(text);
    if text.len() > MAX_HOST_LEN || !labels.split('.').all(is_label) {
        let message = format!("`{text}` is not a host name");
        return Err(Rejected::new(message, "write a host name or an IP address before the port"));
    }
    Ok(text.to_ascii_lowercase())
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=MAX_LABEL_LEN).contains(&label.len()) && !label.starts_with('-') && label.bytes().all(allowed)
}

/// A server may listen on the unspecified address, but nobody can tell from it where the server is.
fn address_of_a_host(address: IpAddr) -> Result<String, Rejected> {
    if address.is_unspecified() || address.is_multicast() {
        let message = format!("`{address}` is not the address of a server");
        return Err(Rejected::new(message, "write the address under which this machine reaches it"));
    }
    Ok(address.to_string())
}
