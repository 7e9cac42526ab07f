//! Names that every broker can carry.

use anybroker_contract::{Error, ErrorKind, Result};

const LONGEST: usize = 200;

/// Refuses a name that some broker could not carry; `what` says whose name it is, such as `channel`.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let bad = name.chars().find(|c| !(c.is_ascii_alphanumeric() || ".-_".contains(*c)));
    let problem = match bad {
        // Debug, as the character may be invisible.
        Some(bad) => format!("the {what} name {name:?} contains {bad:?}"),
        None if name.is_empty() => format!("the {what} name is empty"),
        None if name.len() > LONGEST => format!("the {what} name `{name}` is {} bytes long", name.len()),
        None if name == "." || name == ".." => {
            format!("the {what} name `{name}` means a folder to some brokers")
        }
        None => return Ok(()),
    };
    Err(Error::new(ErrorKind::Config, problem).with_help(format!(
        "a name has 1 to {LONGEST} ASCII letters, digits, `.`, `-` and `_`, which every broker can carry"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_every_broker_carries() {
        let longest = "x".repeat(LONGEST);
        for name in ["a", "orders", "prod.orders_v1-EU", "...", "0", &longest] {
            assert!(check_name("channel", name).is_ok(), "{name}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        let long = "x".repeat(LONGEST + 1);
        for (name, problem) in [
            ("", String::from("the channel name is empty")),
            ("or ders", String::from("the channel name \"or ders\" contains ' '")),
            ("größe", String::from("the channel name \"größe\" contains 'ö'")),
            ("a/b", String::from("the channel name \"a/b\" contains '/'")),
            ("a\n", String::from("the channel name \"a\\n\" contains '\\n'")),
            ("..", String::from("the channel name `..` means a folder to some brokers")),
            (&long, format!("the channel name `{long}` is 201 bytes long")),
        ] {
            let error = check_name("channel", name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert_eq!(
                error.to_string(),
                format!(
                    "{problem}\n  = help: a name has 1 to 200 ASCII letters, digits, `.`, `-` and `_`, which every broker \
                     can carry"
                )
            );
        }
    }
}
