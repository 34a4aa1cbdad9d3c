//! The flags of `send_push_notification`, in the syntax of Go's `flag` package.
//!
//! A parser of its own, because scripts rely on the syntax and clap reads it differently:
//! `-type host` would be `-t ype`, and `-hostuuid` a request for help.

use thiserror::Error;

use super::number::{self, NumberError};

/// A flag as the usage text shows it.
pub(super) struct Flag {
    pub(super) name: &'static str,
    /// Its type in the usage text; a switch shows none.
    pub(super) kind: Option<&'static str>,
    pub(super) about: &'static str,
}

const fn flag(name: &'static str, kind: Option<&'static str>, about: &'static str) -> Flag {
    Flag { name, kind, about }
}

/// Every flag, in the order of the usage text.
pub(super) const FLAGS: &[Flag] = &[
    flag("accept-202", None, "Exit code 0 when the alert was in order but nobody listens (202)"),
    flag("ackauthor", Some("string"), "Author of the acknowledgement"),
    flag("ackcomment", Some("string"), "Comment of the acknowledgement"),
    flag("hostuuid", Some("string"), "UUID of the host"),
    flag("notificationtype", Some("string"), "Notification type, such as PROBLEM or RECOVERY"),
    flag("output", Some("string"), "Output of the check"),
    flag("serviceuuid", Some("string"), "UUID of the service"),
    flag("state", Some("int"), "State of the host or service"),
    flag("t", Some("string"), "Short for -type, which wins when both are given"),
    flag("type", Some("string"), "What the alert is about: host or service"),
    flag("user-id", Some("int"), "Number of the user to notify (required)"),
];

/// The values of the flags.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) accept_202: bool,
    pub(super) ack_author: String,
    pub(super) ack_comment: String,
    pub(super) host_uuid: String,
    pub(super) notification_type: String,
    pub(super) output: String,
    pub(super) service_uuid: String,
    pub(super) state: i64,
    t: String,
    kind: String,
    pub(super) user_id: i64,
}

/// What is wrong with the command line, in Go's words.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum Misuse {
    #[error("bad flag syntax: {0}")]
    Syntax(String),
    #[error("flag provided but not defined: -{0}")]
    Unknown(String),
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    #[error("invalid value {} for flag -{name}: {why}", quote(.value))]
    Number { name: String, value: String, why: NumberError },
    #[error("invalid boolean value {} for -{name}: parse error", quote(.value))]
    Switch { name: String, value: String },
}

/// Where the value of a flag goes.
enum Slot<'a> {
    Text(&'a mut String),
    Number(&'a mut i64),
    Switch(&'a mut bool),
}

impl Flags {
    /// `-type`, or `-t` where that is empty.
    pub(super) fn kind(&self) -> &str {
        if self.kind.is_empty() { &self.t } else { &self.kind }
    }

    fn slot(&mut self, name: &str) -> Option<Slot<'_>> {
        Some(match name {
            "accept-202" => Slot::Switch(&mut self.accept_202),
            "ackauthor" => Slot::Text(&mut self.ack_author),
            "ackcomment" => Slot::Text(&mut self.ack_comment),
            "hostuuid" => Slot::Text(&mut self.host_uuid),
            "notificationtype" => Slot::Text(&mut self.notification_type),
            "output" => Slot::Text(&mut self.output),
            "serviceuuid" => Slot::Text(&mut self.service_uuid),
            "state" => Slot::Number(&mut self.state),
            "t" => Slot::Text(&mut self.t),
            "type" => Slot::Text(&mut self.kind),
            "user-id" => Slot::Number(&mut self.user_id),
            _ => return None,
        })
    }
}

/// Reads the arguments up to the first one that is no flag, or to the first mistake. None
/// if they ask for help.
pub(super) fn parse(args: impl IntoIterator<Item = String>) -> Result<Option<Flags>, Misuse> {
    let mut args = args.into_iter();
    let mut flags = Flags::default();
    // `-`, `--` and words end the flags; what follows is ignored, as by the original.
    while let Some(arg) = args.next().filter(|arg| arg.starts_with('-') && arg != "-") {
        if arg == "--" {
            break;
        }
        let (name, value) = split(&arg)?;
        let Some(slot) = flags.slot(name) else {
            if ["h", "help"].contains(&name) {
                return Ok(None);
            }
            return Err(Misuse::Unknown(name.to_owned()));
        };
        set(slot, name, value.map(str::to_owned), &mut args)?;
    }
    Ok(Some(flags))
}

/// `--name=value` in its parts; one dash is as good as two.
fn split(arg: &str) -> Result<(&str, Option<&str>), Misuse> {
    let name = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).unwrap_or(arg);
    if name.is_empty() || name.starts_with(['-', '=']) {
        return Err(Misuse::Syntax(arg.to_owned()));
    }
    Ok(name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value))))
}

fn set(
    slot: Slot<'_>,
    name: &str,
    value: Option<String>,
    rest: &mut impl Iterator<Item = String>,
) -> Result<(), Misuse> {
    let name = || name.to_owned();
    // Only a switch can do without a value; any other flag takes the next argument,
    // also one that looks like a flag.
    if let Slot::Switch(on) = slot {
        *on = switch(value.as_deref().unwrap_or("true"))
            .ok_or_else(|| Misuse::Switch { name: name(), value: value.unwrap_or_default() })?;
        return Ok(());
    }
    let value = value.or_else(|| rest.next()).ok_or_else(|| Misuse::NoValue(name()))?;
    match slot {
        Slot::Text(text) => *text = value,
        Slot::Number(number) => match number::parse(&value) {
            Ok(parsed) => *number = parsed,
            Err(why) => return Err(Misuse::Number { name: name(), value, why }),
        },
        Slot::Switch(_) => {}
    }
    Ok(())
}

/// The words for yes and no that Go takes.
fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A text in double quotes with Go's escapes (`%q`): one line, nothing that a terminal
/// would obey.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            '\r' => quoted.push_str("\\r"),
            '\'' => quoted.push(c),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            // Rust knows what can be printed, and writes the rest in a way of its own.
            c if c.escape_debug().len() == 1 => quoted.push(c),
            c if u32::from(c) <= 0xffff => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// The text for `-h` and for every mistake. `program` is how the user called us.
pub(super) fn usage(program: &str) -> String {
    format!("Usage of {program}:\n{}", list())
}

/// The flags, one entry each, as Go lists them.
pub(super) fn list() -> String {
    let entry = |flag: &Flag| {
        let kind = flag.kind.map(|kind| format!(" {kind}")).unwrap_or_default();
        format!("  -{}{kind}\n    \t{}\n", flag.name, flag.about)
    };
    FLAGS.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::{FLAGS, Flags, Misuse, Slot, list, parse, quote, usage};

    fn flags(args: &[&str]) -> Flags {
        match parse(args.iter().map(ToString::to_string)) {
            Ok(Some(flags)) => flags,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    fn misuse(args: &[&str]) -> String {
        match parse(args.iter().map(ToString::to_string)) {
            Err(misuse) => misuse.to_string(),
            other => panic!("{args:?}: {other:?}"),
        }
    }

    #[test]
    fn four_spellings_are_one_flag() {
        for args in [&["-type", "x"][..], &["-type=x"], &["--type", "x"], &["--type=x"]] {
            assert_eq!(flags(args).kind(), "x", "{args:?}");
        }
        for args in [
            &["-user-id", "0x10"][..],
            &["-user-id=0x10"],
            &["--user-id", "0x10"],
            &["--user-id=0x10"],
        ] {
            assert_eq!(flags(args).user_id, 16, "{args:?}");
        }
    }

    #[test]
    fn every_flag_goes_to_its_place() {
        let read = flags(&[
            "--accept-202",
            "--ackauthor=a",
            "--ackcomment=c",
            "--hostuuid=h",
            "--notificationtype=n",
            "--output=o",
            "--serviceuuid=s",
            "--state=-2",
            "--t=t",
            "--type=k",
            "--user-id=3",
        ]);
        let expected = Flags {
            accept_202: true,
            ack_author: "a".into(),
            ack_comment: "c".into(),
            host_uuid: "h".into(),
            notification_type: "n".into(),
            output: "o".into(),
            service_uuid: "s".into(),
            state: -2,
            t: "t".into(),
            kind: "k".into(),
            user_id: 3,
        };
        assert_eq!(read, expected);
        assert_eq!(flags(&[]), Flags::default());
    }

    #[test]
    fn type_wins_over_t_unless_it_is_empty() {
        assert_eq!(flags(&["-t", "host"]).kind(), "host");
        assert_eq!(flags(&["-type", "service", "-t", "host"]).kind(), "service");
        assert_eq!(flags(&["-type", "", "-t", "host"]).kind(), "host");
    }

    #[test]
    fn the_last_one_wins_and_values_are_taken_as_they_are() {
        assert_eq!(flags(&["-state", "1", "--state=2"]).state, 2);
        assert_eq!(flags(&["-output", "-state", "-state", "1"]).output, "-state");
        assert_eq!(flags(&["-output", "--"]).output, "--");
        assert_eq!(flags(&["-output=a=b"]).output, "a=b");
        assert_eq!(flags(&["-output="]).output, "");
        assert_eq!(flags(&["-output", "", "-state", "1"]).state, 1, "empty, but a value");
        assert_eq!(flags(&["-user-id", "-5"]).user_id, -5);
    }

    #[test]
    fn flags_end_at_the_first_word() {
        for end in ["word", "-", "--", ""] {
            let read = flags(&["-state", "1", end, "-state", "2", "-bogus"]);
            assert_eq!(read.state, 1, "{end:?}");
        }
    }

    #[test]
    fn the_switch_takes_a_value_only_after_an_equals_sign() {
        for on in ["-accept-202", "--accept-202", "-accept-202=true", "--accept-202=1"] {
            assert!(flags(&[on]).accept_202, "{on}");
        }
        assert!(!flags(&["-accept-202", "-accept-202=false"]).accept_202);
        // Otherwise the next argument is a word, and ends the flags.
        assert_eq!(flags(&["-accept-202", "false", "-state", "1"]).state, 0);
        let expected = "invalid boolean value \"yes\" for -accept-202: parse error";
        assert_eq!(misuse(&["-accept-202=yes"]), expected);
        let expected = "invalid boolean value \"\" for -accept-202: parse error";
        assert_eq!(misuse(&["-accept-202="]), expected);
    }

    #[test]
    fn help_is_no_mistake() {
        for help in ["-h", "--h", "-help", "--help", "-h=x"] {
            let args = ["-state", "1", help, "-bogus"].map(str::to_owned);
            assert_eq!(parse(args), Ok(None), "{help}");
        }
    }

    #[test]
    fn mistakes_are_told_in_the_words_of_go() {
        for (args, expected) in [
            (&["-bogus"][..], "flag provided but not defined: -bogus"),
            (&["--bogus=1"], "flag provided but not defined: -bogus"),
            (&["-Type", "x"], "flag provided but not defined: -Type"),
            (&["-typ", "x"], "flag provided but not defined: -typ"),
            (&["---state"], "bad flag syntax: ---state"),
            (&["-=x"], "bad flag syntax: -=x"),
            (&["--=x"], "bad flag syntax: --=x"),
            (&["-user-id"], "flag needs an argument: -user-id"),
            (&["--output"], "flag needs an argument: -output"),
            (&["-user-id", "abc"], "invalid value \"abc\" for flag -user-id: parse error"),
            (&["--user-id="], "invalid value \"\" for flag -user-id: parse error"),
            (&["-state", ""], "invalid value \"\" for flag -state: parse error"),
            (
                &["-state", "9223372036854775808"],
                "invalid value \"9223372036854775808\" for flag -state: value out of range",
            ),
        ] {
            assert_eq!(misuse(args), expected, "{args:?}");
        }
        // The first mistake counts.
        let both = ["-state", "x", "-bogus"].map(str::to_owned);
        assert!(matches!(parse(both), Err(Misuse::Number { .. })));
    }

    #[test]
    fn quoted_values_hold_nothing_that_a_terminal_obeys() {
        assert_eq!(quote("it's \"ä\\\" €"), r#""it's \"ä\\\" €""#);
        assert_eq!(
            quote("\u{7}\u{8}\t\n\u{b}\u{c}\r\0\u{1b}\u{7f}"),
            r#""\a\b\t\n\v\f\r\x00\x1b\x7f""#
        );
        assert_eq!(quote("\u{85}\u{a0}\u{e0001}\u{fffd}"), "\"\\u0085\\u00a0\\U000e0001\u{fffd}\"");
    }

    #[test]
    fn the_usage_lists_what_is_parsed() {
        assert!(FLAGS.is_sorted_by_key(|flag| flag.name));
        for flag in FLAGS {
            let mut flags = Flags::default();
            let kind = match flags.slot(flag.name) {
                Some(Slot::Text(_)) => Some("string"),
                Some(Slot::Number(_)) => Some("int"),
                Some(Slot::Switch(_)) => None,
                None => panic!("{} is not parsed", flag.name),
            };
            assert_eq!(flag.kind, kind, "{}", flag.name);
        }
        assert!(usage("x").starts_with("Usage of x:\n  -accept-202\n    \tExit code 0 "));
        assert!(list().contains("\n  -user-id int\n    \tNumber of "));
        assert!(list().contains("\n  -t string\n    \tShort "));
    }
}
