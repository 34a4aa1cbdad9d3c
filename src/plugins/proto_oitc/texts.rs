//! Titles, messages and icons of notifications, as the Go server words them.

use super::post::{Kind, Notification};

/// What a notification shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Texts {
    pub title: String,
    pub message: String,
    /// Empty for none.
    pub icon: &'static str,
}

/// Words for the notification of `subject`: the host's name, or `host/service`.
pub(super) fn texts(notification: &Notification, kind: Kind, subject: &str) -> Texts {
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
    match notification.notification_type.as_str() {
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
