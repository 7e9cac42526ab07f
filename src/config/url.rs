//! URLs of brokers: `scheme[+tls]://[user[:password]@]host[:port],host[:port]/path?key=value`.
//!
//! Several hosts make them something else than web URLs, hence a parser of our own. None of its errors quotes more of the URL than a host name:
//! a password with an unescaped `/` in it looks like a host and a path.

use anybroker_contract::{Auth, Error, ErrorKind, Host, Result, Secret};
use std::fmt;
use std::net::Ipv6Addr;

/// A URL in its parts, percent-decoded.
#[derive(Debug)]
pub(super) struct Url {
    /// In lower case, with `+tls` where it stands.
    pub(super) scheme: String,
    pub(super) auth: Option<Auth>,
    pub(super) hosts: Vec<Host>,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
}

impl Url {
    pub(super) fn parse(url: &str) -> Result<Self> {
        if let Some(bad) = url.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return wrong(
                format_args!("a URL cannot contain the character {bad:?}"),
                "percent-encode it, such as `%20` for a space",
            );
        }
        let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
            return wrong("this is not a URL", "write `scheme://host`, such as `memory://main`");
        };
        if rest.contains('#') {
            return wrong(
                "a URL of a broker has no part after `#`",
                "write a `#` that belongs to a value as `%23`",
            );
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = match authority.rsplit_once('@') {
            Some((user, hosts)) => (Some(user), hosts),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains('@')) || path.contains('@') || query.contains('@') {
            return wrong(
                "an `@` may only stand between the credentials and the first host",
                "in a user name, a password, a path or a query write `%40` for `@`, `%2F` for `/`, `%3F` for `?`",
            );
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            auth: user.map(credentials).transpose()?.flatten(),
            hosts: if hosts.is_empty() {
                Vec::new()
            } else {
                hosts.split(',').map(host).collect::<Result<_>>()?
            },
            path: decode("path", path)?,
            query: query.split('&').filter(|pair| !pair.is_empty()).map(parameter).collect::<Result<_>>()?,
        })
    }
}

/// The URL for `Debug`: without credentials, and without values in the query.
pub(super) struct Redacted<'a>(pub(super) &'a str);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Url::parse(self.0) {
            // What cannot be parsed cannot be told apart from a secret either.
            Err(_) => f.write_str("(not a URL)"),
            Ok(url) => {
                write!(f, "\"{}://", url.scheme)?;
                for (i, host) in url.hosts.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { "," })?;
                    match host.name.contains(':') {
                        true => write!(f, "[{}]", host.name.escape_debug())?,
                        false => write!(f, "{}", host.name.escape_debug())?,
                    }
                    host.port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
                }
                if !url.path.is_empty() {
                    write!(f, "/{}", url.path.escape_debug())?;
                }
                for (i, (key, _)) in url.query.iter().enumerate() {
                    write!(f, "{}{}=..", if i == 0 { '?' } else { '&' }, key.escape_debug())?;
                }
                f.write_str("\"")
            }
        }
    }
}

fn is_scheme(scheme: &str) -> bool {
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn credentials(user: &str) -> Result<Option<Auth>> {
    let (name, password) = match user.split_once(':') {
        Some((name, password)) => (name, Some(password)),
        None => (user, None),
    };
    let mut auth = Auth::none();
    if !name.is_empty() {
        auth.username = Some(decode("user name", name)?);
    }
    if let Some(password) = password {
        auth.password = Some(Secret::new(decode("password", password)?));
    }
    Ok(Some(auth).filter(|auth| *auth != Auth::none()))
}

fn host(host: &str) -> Result<Host> {
    let (name, port) = match host.strip_prefix('[') {
        Some(bracketed) => match bracketed.split_once(']') {
            Some((address, "")) => (ipv6(address)?, None),
            Some((address, port)) if port.starts_with(':') => (ipv6(address)?, Some(&port[1..])),
            _ => {
                return wrong("an IPv6 address is not closed", "write it as `[::1]` or `[::1]:1234`");
            }
        },
        None => match host.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return wrong(
                    "a host has more than one `:`",
                    "put an IPv6 address in brackets, such as `[::1]:1234`; write `%3A` for a `:` in a password",
                );
            }
            Some((name, port)) => (decode("host", name)?, Some(port)),
            None => (decode("host", host)?, None),
        },
    };
    if name.is_empty() {
        return wrong("a host is empty", "write `host` or `host:port`, several with one comma between them");
    }
    let port = match port {
        None => None,
        // `parse` alone would take `+1`.
        Some(port) => match port.parse::<u16>() {
            Ok(number) if number > 0 && !port.starts_with('+') => Some(number),
            _ => {
                return wrong(
                    "a port is not a number from 1 to 65535",
                    "write `host:port`; in a password write `%2F` for `/`, `%3F` for `?`, `%23` for `#`",
                );
            }
        },
    };
    Ok(Host::new(name, port))
}

fn ipv6(address: &str) -> Result<String> {
    let address = decode("host", address)?;
    let without_zone = address.split_once('%').map_or(address.as_str(), |(bare, _)| bare);
    match without_zone.parse::<Ipv6Addr>() {
        Ok(_) => Ok(address),
        Err(_) => wrong("what stands in brackets is not an IPv6 address", "write it as `[::1]`"),
    }
}

fn parameter(pair: &str) -> Result<(String, String)> {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    if key.is_empty() {
        return wrong("a parameter has no name", "write `?name=value&name=value`");
    }
    Ok((decode("query", key)?, decode("query", value)?))
}

fn decode(part: &str, text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => bytes.extend(u8::try_from(high * 16 + low)),
            _ => {
                return wrong(
                    format_args!("in the {part} a `%` is not followed by two hexadecimal digits"),
                    "write `%25` for a `%`",
                );
            }
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) => wrong(
            format_args!("the percent-decoded {part} is not UTF-8"),
            "percent-encode the bytes of UTF-8 text",
        ),
    }
}

fn wrong<T>(problem: impl fmt::Display, help: &str) -> Result<T> {
    Err(Error::new(ErrorKind::Config, problem.to_string()).with_help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> (String, String, String, Vec<(String, String)>) {
        let url = Url::parse(url).unwrap();
        let hosts = url.hosts.iter().map(|host| match host.port {
            Some(port) => format!("{} at {port}", host.name),
            None => host.name.clone(),
        });
        (url.scheme, hosts.collect::<Vec<_>>().join(" "), url.path, url.query)
    }

    fn refused(url: &str) -> String {
        let error = Url::parse(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }

    #[test]
    fn all_parts_are_read() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        for (url, scheme, hosts, path, query) in [
            ("memory://", "memory", "", "", vec![]),
            ("memory://main", "memory", "main", "", vec![]),
            ("KAFKA+TLS://a:1,b,c:3", "kafka+tls", "a at 1 b c at 3", "", vec![]),
            ("x://[::1]:5,[fe80::1%25eth0]", "x", "::1 at 5 fe80::1%eth0", "", vec![]),
            ("x://h/%2F", "x", "h", "/", vec![]),
            ("x://h/a/b%20c", "x", "h", "a/b c", vec![]),
            ("uds:///run/broker.sock", "uds", "", "run/broker.sock", vec![]),
            ("x://h?", "x", "h", "", vec![]),
            ("x://h?a=1&b&a=%26%3D+&&", "x", "h", "", vec![pair("a", "1"), pair("b", ""), pair("a", "&=+")]),
            ("x://h/p?u=a://b/c", "x", "h", "p", vec![pair("u", "a://b/c")]),
        ] {
            let expected = (scheme.to_owned(), hosts.to_owned(), path.to_owned(), query);
            assert_eq!(parts(url), expected, "{url}");
        }
    }

    #[test]
    fn credentials_are_read() {
        for (url, username, password) in [
            ("x://h", None, None),
            ("x://@h", None, None),
            ("x://:@h", None, Some("")),
            ("x://user@h", Some("user"), None),
            ("x://user:@h", Some("user"), Some("")),
            ("x://:pw@h", None, Some("pw")),
            ("x://u%3Aser:p%40ss:%2F@h:1,i", Some("u:ser"), Some("p@ss:/")),
        ] {
            let auth = Url::parse(url).unwrap().auth.unwrap_or(Auth::none());
            assert_eq!(auth.username.as_deref(), username, "{url}");
            assert_eq!(auth.password.as_ref().map(Secret::expose), password, "{url}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong_and_quote_nothing() {
        let not_url = "this is not a URL\n  = help: write `scheme://host`, such as `memory://main`";
        let port = "a port is not a number from 1 to 65535\n  = help: write `host:port`; in a password write `%2F` for `/`, \
                    `%3F` for `?`, `%23` for `#`";
        let at = "an `@` may only stand between the credentials and the first host\n  = help: in a user name, a password, a \
                  path or a query write `%40` for `@`, `%2F` for `/`, `%3F` for `?`";
        let empty =
            "a host is empty\n  = help: write `host` or `host:port`, several with one comma between them";
        for (url, text) in [
            ("", not_url),
            ("hunter2", not_url),
            ("localhost:5672", not_url),
            ("://h", not_url),
            (
                "hunter 2://h",
                "a URL cannot contain the character ' '\n  = help: percent-encode it, such as `%20` for a space",
            ),
            ("hunter_2://h", not_url),
            ("x://h:hunter2", port),
            ("x://h:", port),
            ("x://h:0", port),
            ("x://h:+1", port),
            ("x://h:65536", port),
            ("x://u:hunter2/x@h", at),
            ("x://u:1/hunter2@h", at),
            ("x://u:1?hunter2@h", at),
            ("x://u:hunter2@h,u:hunter2@i", at),
            (
                "x://u:hunter2#x@h",
                "a URL of a broker has no part after `#`\n  = help: write a `#` that belongs to a value as `%23`",
            ),
            ("x://a,,b", empty),
            ("x://:1", empty),
            ("x://u@,b", empty),
            (
                "x://::1",
                "a host has more than one `:`\n  = help: put an IPv6 address in brackets, such as `[::1]:1234`; write `%3A` \
                 for a `:` in a password",
            ),
            ("x://[::1", "an IPv6 address is not closed\n  = help: write it as `[::1]` or `[::1]:1234`"),
            ("x://[::1]5", "an IPv6 address is not closed\n  = help: write it as `[::1]` or `[::1]:1234`"),
            ("x://[h]", "what stands in brackets is not an IPv6 address\n  = help: write it as `[::1]`"),
            (
                "x://u:hunter%2@h",
                "in the password a `%` is not followed by two hexadecimal digits\n  = help: write `%25` for a `%`",
            ),
            (
                "x://h/%",
                "in the path a `%` is not followed by two hexadecimal digits\n  = help: write `%25` for a `%`",
            ),
            (
                "x://h/%FF",
                "the percent-decoded path is not UTF-8\n  = help: percent-encode the bytes of UTF-8 text",
            ),
            ("x://h?=1", "a parameter has no name\n  = help: write `?name=value&name=value`"),
        ] {
            assert_eq!(refused(url), text, "{url}");
        }
    }

    #[test]
    fn a_redacted_url_shows_no_credential() {
        for (url, shown) in [
            (
                "x+tls://u:hunter2@a:1,[::1]:2/v%20h?token=hunter2&b=1",
                "\"x+tls://a:1,[::1]:2/v h?token=..&b=..\"",
            ),
            ("memory://main", "\"memory://main\""),
            ("hunter2", "(not a URL)"),
            ("x://u:hunter2/x@h", "(not a URL)"),
        ] {
            assert_eq!(format!("{:?}", Redacted(url)), shown);
        }
    }
}
