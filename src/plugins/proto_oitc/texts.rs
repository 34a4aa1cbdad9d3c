//! Titles, messages and icons of notifications, as the Go server words them.

use super::post::{Kind, Notification, Subject};

/// What a notification shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Texts {
    pub title: String,
    pub message: String,
    /// Empty for none.
    pub icon: &'static str,
}

/// Words for the notification of `subject`: the host's name, or `host/service`.
pub(super) fn texts(notification: &Notification, kind: Kind, subject: &Subject) -> Texts {
    let subject = name(subject);
    let (upper, lower) = match kind {
        Kind::Host => ("Host", "host"),
        Kind::Service => ("Service", "service"),
    };
    let state = word(kind, notification.state);
    let plain = |title: &str, message: String| Texts {
        title: format!("{title} {subject}"),
        message,
        icon: "",
    };
    match notification.event.as_str() {
        "ACKNOWLEDGEMENT" => Texts {
            title: format!("Acknowledgement for {subject} ({state})"),
            message: format!("{}: {}", notification.ack_author, notification.ack_comment),
            icon: "",
        },
        "DOWNTIMESTART" => plain(
            "Downtime start for",
            format!("{upper} has entered a period of scheduled downtime"),
        ),
        "DOWNTIMEEND" => {
            plain("Downtime end for", format!("{upper} has exited a period of scheduled downtime"))
        }
        "DOWNTIMECANCELLED" => plain(
            "Downtime cancelled for",
            format!("Scheduled downtime for {lower} has been cancelled"),
        ),
        "FLAPPINGSTART" => {
            plain("Flapping start for", format!("{upper} appears to have started flapping"))
        }
        "FLAPPINGSTOP" => {
            plain("Flapping stop for", format!("{upper} appears to have stopped flapping"))
        }
        "FLAPPINGDISABLED" => {
            plain("Flapping disabled for", format!("Flapping has been disabled for the {lower}"))
        }
        other => Texts {
            title: format!("{other}: {subject} is {state}!"),
            message: notification.output.clone(),
            icon: icon(kind, notification.state),
        },
    }
}

/// Words of the PHP server before the Go one, where they differ.
pub(super) fn legacy_texts(notification: &Notification, kind: Kind, subject: &Subject) -> Texts {
    let mut texts = texts(notification, kind, subject);
    let name = name(subject);
    let state = legacy_word(kind, notification.state);
    let upper = if kind == Kind::Host { "Host" } else { "Service" };
    match notification.event.as_str() {
        "ACKNOWLEDGEMENT" => texts.title = format!("Acknowledgement for {name} ({state})"),
        "DOWNTIMEEND" => {
            texts.message = format!("{upper} has exited from a period of scheduled downtime");
        }
        "FLAPPINGSTART" => texts.title = format!("Flapping started on {name}"),
        "FLAPPINGSTOP" => texts.title = format!("Flapping stopped on {name}"),
        "FLAPPINGDISABLED" => {
            texts.title = format!("Disabled flap detection for {name}");
            "Flap detection has been disabled".clone_into(&mut texts.message);
        }
        "DOWNTIMESTART" | "DOWNTIMECANCELLED" => {}
        other => {
            let name = match &subject.service {
                Some(service) => format!("{service} on {}", subject.host),
                None => name,
            };
            texts.title = format!("{other}: {name} is {state}!");
        }
    }
    texts
}

fn name(subject: &Subject) -> String {
    match &subject.service {
        Some(service) => format!("{}/{service}", subject.host),
        None => subject.host.clone(),
    }
}

fn legacy_word(kind: Kind, state: i64) -> &'static str {
    match (kind, state) {
        (Kind::Host, 0) => "Up",
        (Kind::Host, 1) => "Down",
        (Kind::Host, _) => "Unreachable",
        (Kind::Service, 0) => "Ok",
        (Kind::Service, 1) => "Warning",
        (Kind::Service, 2) => "Critical",
        (Kind::Service, _) => "Unknown",
    }
}

fn word(kind: Kind, state: i64) -> &'static str {
    match (kind, state) {
        (Kind::Host, 0) => "UP",
        (Kind::Host, 1) => "DOWN",
        (Kind::Host, _) => "UNREACHABLE",
        (Kind::Service, 0) => "OK",
        (Kind::Service, 1) => "WARNING",
        (Kind::Service, 2) => "CRITICAL",
        (Kind::Service, _) => "UNKNOWN",
    }
}

fn icon(kind: Kind, state: i64) -> &'static str {
    match (kind, state) {
        (Kind::Host, 0) => "/img/push_notifications/wh/HostPushIconUP.png",
        (Kind::Host, 1) => "/img/push_notifications/wh/HostPushIconDOWN.png",
        // 2 is Naemon's UNREACHABLE. The original has an icon for 3 alone, which Naemon
        // never sends; the PHP server before it had one for 2.
        (Kind::Host, 2 | 3) => "/img/push_notifications/wh/HostPushIconUNREACHABLE.png",
        (Kind::Service, 0) => "/img/push_notifications/wh/ServicePushIconOK.png",
        (Kind::Service, 1) => "/img/push_notifications/wh/ServicePushIconWARNING.png",
        (Kind::Service, 2) => "/img/push_notifications/wh/ServicePushIconCRITICAL.png",
        (Kind::Service, 3) => "/img/push_notifications/wh/ServicePushIconUNKNOWN.png",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Title and message in the words of today and of the PHP server.
    fn both(kind: Kind, event: &str, state: i64) -> [(String, String); 2] {
        let notification = Notification {
            event: event.into(),
            state,
            output: "out".into(),
            ack_author: "Ann".into(),
            ack_comment: "c".into(),
            ..Notification::default()
        };
        let service = (kind == Kind::Service).then(|| "Ping".to_owned());
        let subject = Subject { host: "web".into(), service };
        [texts, legacy_texts].map(|words| {
            let texts = words(&notification, kind, &subject);
            (texts.title, texts.message)
        })
    }

    #[test]
    fn the_two_dialects() {
        for (kind, event, state, title, legacy_title) in [
            (Kind::Host, "PROBLEM", 1, "PROBLEM: web is DOWN!", "PROBLEM: web is Down!"),
            (
                Kind::Service,
                "PROBLEM",
                2,
                "PROBLEM: web/Ping is CRITICAL!",
                "PROBLEM: Ping on web is Critical!",
            ),
            (
                Kind::Service,
                "ACKNOWLEDGEMENT",
                9,
                "Acknowledgement for web/Ping (UNKNOWN)",
                "Acknowledgement for web/Ping (Unknown)",
            ),
            (Kind::Host, "DOWNTIMESTART", 0, "Downtime start for web", "Downtime start for web"),
            (Kind::Host, "FLAPPINGSTART", 0, "Flapping start for web", "Flapping started on web"),
            (Kind::Host, "FLAPPINGSTOP", 0, "Flapping stop for web", "Flapping stopped on web"),
            (
                Kind::Host,
                "FLAPPINGDISABLED",
                0,
                "Flapping disabled for web",
                "Disabled flap detection for web",
            ),
        ] {
            let [today, legacy] = both(kind, event, state);
            assert_eq!((today.0.as_str(), legacy.0.as_str()), (title, legacy_title), "{event}");
        }
        let [today, legacy] = both(Kind::Host, "DOWNTIMEEND", 0);
        assert_eq!(today.1, "Host has exited a period of scheduled downtime");
        assert_eq!(legacy.1, "Host has exited from a period of scheduled downtime");
        let [today, legacy] = both(Kind::Service, "FLAPPINGDISABLED", 0);
        assert_eq!(today.1, "Flapping has been disabled for the service");
        assert_eq!(legacy.1, "Flap detection has been disabled");
    }
}
