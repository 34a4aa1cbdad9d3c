//! The command grammar of `/ws`.

/// What a text message asks for. Borrows from the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// Not a command; the original says nothing to it.
    Nothing,
    Subscribe {
        topic: &'a str,
        token: &'a str,
    },
    /// `/subscribe` with any other number of words.
    BadSubscribe,
    Unsubscribe {
        topic: &'a str,
    },
    UnsubscribeAll,
    Unknown,
}

/// Reads a message: trimmed, one command, split at blanks (U+0020) and nothing else.
pub(super) fn parse(message: &str) -> Command<'_> {
    let message = message.trim();
    if !message.starts_with('/') {
        return Command::Nothing;
    }
    match message.split_once(' ') {
        Some(("/subscribe", rest)) => match rest.split_once(' ') {
            Some((topic, token)) if !token.contains(' ') => Command::Subscribe { topic, token },
            _ => Command::BadSubscribe,
        },
        Some(("/unsubscribe", topic)) => Command::Unsubscribe { topic },
        None if message == "/unsubscribe-all" => Command::UnsubscribeAll,
        _ => Command::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_original_s_reading() {
        let subscribe = Command::Subscribe { topic: "t", token: "T" };
        for (message, expected) in [
            ("/subscribe t T", subscribe),
            ("  /subscribe t T\n", subscribe),
            ("\u{A0}/subscribe t T", subscribe),
            ("/subscribe  T", Command::Subscribe { topic: "", token: "T" }),
            (
                "/subscribe t T\n/unsubscribe-all",
                Command::Subscribe { topic: "t", token: "T\n/unsubscribe-all" },
            ),
            ("/subscribe  t T", Command::BadSubscribe),
            ("/subscribe t  T", Command::BadSubscribe),
            ("/subscribe t T x", Command::BadSubscribe),
            ("/subscribe t", Command::BadSubscribe),
            ("/subscribe t\tT", Command::BadSubscribe),
            ("/subscribe", Command::Unknown),
            ("/subscribe ", Command::Unknown),
            ("/subscribe\tt\tT", Command::Unknown),
            ("/SUBSCRIBE t T", Command::Unknown),
            ("/subscribed", Command::Unknown),
            ("/", Command::Unknown),
            ("/ x", Command::Unknown),
            ("//subscribe t T", Command::Unknown),
            ("hello", Command::Nothing),
            ("", Command::Nothing),
            (" \n", Command::Nothing),
            ("\0/subscribe t T", Command::Nothing),
            ("/unsubscribe", Command::Unknown),
            ("/unsubscribe ", Command::Unknown),
            ("/unsubscribe t", Command::Unsubscribe { topic: "t" }),
            ("/unsubscribe t t", Command::Unsubscribe { topic: "t t" }),
            ("/unsubscribe  t", Command::Unsubscribe { topic: " t" }),
            ("/unsubscribe-all", Command::UnsubscribeAll),
            ("/unsubscribe-all  ", Command::UnsubscribeAll),
            ("/unsubscribe-all x", Command::Unknown),
        ] {
            assert_eq!(parse(message), expected, "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_built_is_read(topic in "[^ ]{0,40}", token in "[^ ]{1,80}", around in "[ \t\n\u{A0}]{0,3}") {
            // White space at the very end belongs to the trimming.
            prop_assume!(token.trim_end() == token);
            let message = format!("{around}/subscribe {topic} {token}{around}");
            prop_assert_eq!(parse(&message), Command::Subscribe { topic: &topic, token: &token });
        }

        #[test]
        fn a_subscribe_never_holds_a_blank(message in "(/subscribe|/unsubscribe|/)?[ a/\t\n]{0,12}") {
            if let Command::Subscribe { topic, token } = parse(&message) {
                prop_assert!(!topic.contains(' ') && !token.contains(' '));
            }
        }

        #[test]
        fn any_text_is_read_and_only_a_slash_makes_a_command(message in ".{0,200}") {
            let command = parse(&message);
            prop_assert_eq!(command == Command::Nothing, !message.trim().starts_with('/'));
        }
    }
}
