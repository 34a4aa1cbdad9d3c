//! One message to all subscribers: the few that the publisher writes to by itself, and the
//! many that a carrier visits with everything that waits.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use serde_json::{Value, json};

use crate::support::Raise;
use crate::support::http::post_json;
use crate::support::server::{Builder, Server};
use crate::support::token::Keys;
use crate::support::ws::{Frame, Ws};

/// Numbers of subscribers: few, many, and so many that the carrier lets others have their
/// turn on the way.
const CROWDS: [usize; 3] = [3, 80, 300];

fn strict(more: &str) -> Server {
    let keys = "profile = \"notiflux\"\n[protocol.notiflux]\nstrict = true\nack = true\n";
    Builder::notiflux().file("config.toml", &format!("{keys}{more}")).start()
}

/// How many accepted it, and for how many it was dropped.
fn publish(server: SocketAddr, topic: &str, message: &str) -> (u64, u64) {
    let token = Keys::server().broadcast(&[topic]);
    let body = json!({ "topic": topic, "message": message, "token": token }).to_string();
    let answer = post_json(server, "/broadcast", &body);
    let counts: Value = serde_json::from_slice(&answer.body).unwrap();
    (counts["accepted"].as_u64().unwrap(), counts["dropped"].as_u64().unwrap())
}

fn crowd(server: &Server, size: usize) -> Vec<Ws> {
    let mut crowd: Vec<_> = (0..size).map(|_| Ws::open(server.address)).collect();
    crowd.iter_mut().for_each(|client| client.subscribe("t"));
    crowd
}

#[test]
fn all_subscribers_of_a_topic_see_one_order_and_every_answer_counts_them_all() {
    for size in CROWDS {
        let server = strict("");
        let mut clients = crowd(&server, size);
        thread::scope(|scope| {
            for publisher in 0..16 {
                let address = server.address;
                scope.spawn(move || {
                    for n in 0..25 {
                        let counts = publish(address, "t", &format!("{publisher}-{n}"));
                        assert_eq!(counts, (size as u64, 0));
                    }
                });
            }
        });
        // Answered is written: nothing is waited for here.
        let mut seen =
            clients.iter_mut().map(|c| (0..400).map(|_| c.next_text()).collect::<Vec<_>>());
        let first = seen.next().unwrap();
        assert!(seen.all(|other| other == first));
        // And what one publisher sent after the other stays after the other.
        for publisher in 0..16 {
            let own = first.iter().filter(|text| text.starts_with(&format!("{publisher}-")));
            let expected: Vec<_> = (0..25).map(|n| format!("{publisher}-{n}")).collect();
            assert!(own.eq(expected.iter()));
        }
    }
}

#[test]
fn whoever_was_acknowledged_misses_nothing() {
    for size in CROWDS {
        let server = strict("");
        let crowd = crowd(&server, size);
        let token = Keys::server().subscribe(&["t"]);
        // A publisher that never pauses, while clients come one after the other.
        let (begun, enough) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let (begun, enough, address) = (&begun, &enough, server.address);
            scope.spawn(move || {
                while !enough.load(Ordering::SeqCst) {
                    let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                    publish(address, "t", &number.to_string());
                }
            });
            // However this ends: a test that fails must end too.
            let _end = Raise(enough);
            for _ in 0..25 {
                let mut ws = Ws::open_path(server.address, "/ws?ack=true");
                ws.text(&format!("/subscribe t {token}"));
                // The subscription is in force a moment before it is acknowledged.
                ws.until(|frame| *frame == Frame::Text("/subscribed t".into()));
                // Whatever is begun from here on must come, and nothing in between may lack.
                let next = begun.load(Ordering::SeqCst) + 1;
                let first: u64 = ws.next_text().parse().unwrap();
                assert!(first <= next, "missed from {next} to {first}");
                for expected in first + 1..first + 5 {
                    assert_eq!(ws.next_text(), expected.to_string());
                }
            }
        });
        drop(crowd);
    }
}

#[test]
fn a_processed_subscribe_is_in_force_for_the_next_post() {
    for size in CROWDS {
        let server = strict("");
        let _crowd = crowd(&server, size);
        for round in 0..30 {
            let mut ws = Ws::open(server.address);
            ws.subscribe("t"); // a pong came back: the command before it was processed
            publish(server.address, "t", &round.to_string());
            assert_eq!(ws.next_text(), round.to_string());
        }
    }
}

#[test]
fn nobody_gets_what_is_published_after_the_unsubscribe_was_processed() {
    for size in CROWDS {
        let server = strict("");
        let mut crowd = crowd(&server, size);
        for client in &mut crowd {
            client.drain();
            client.text("/unsubscribe t");
            client.settle();
            publish(server.address, "t", "too late");
            assert_eq!(client.drain(), []);
            client.subscribe("t");
        }
    }
}

#[test]
fn who_comes_again_while_a_message_goes_round_does_not_get_it_twice() {
    let server = strict("");
    let mut crowd = crowd(&server, 1_000);
    let token = Keys::server().subscribe(&["t"]);
    // The first one has it, the last ones are still to come.
    for round in 0..10 {
        let message = format!("m{round}");
        crowd[0].drain();
        thread::scope(|scope| {
            scope.spawn(|| publish(server.address, "t", &message));
            assert_eq!(crowd[0].next_text(), message);
            crowd[0].text("/unsubscribe t");
            crowd[0].text(&format!("/subscribe t {token}"));
        });
        assert_eq!(crowd[0].drain(), []);
        // Its place is now at the end: the next one takes its part.
        crowd.rotate_left(1);
    }
}

#[test]
fn every_message_for_every_subscriber_is_accepted_or_dropped_also_when_many_come_at_once() {
    const PUBLISHERS: u64 = 12;
    const EACH: u64 = 25;
    for size in CROWDS {
        let server = strict("[sink.ws]\nwhen_full = \"drop_newest\"\nqueue_messages = 2\n");
        let mut slow = crowd(&server, 1).remove(0);
        let readers = crowd(&server, size);
        // Numbered, so that one that came twice cannot stand for one that was lost.
        let message = |number: u64| format!("{number:06} {}", "m".repeat(20_000));
        let number = |frame: &Frame| match frame {
            Frame::Text(text) => text[..6].parse::<u64>().unwrap(),
            other => panic!("{other:?}"),
        };
        let (accepted, dropped) = (AtomicU64::new(0), AtomicU64::new(0));
        let total = thread::scope(|scope| {
            // Who reads may fall behind as well: a queue of two is short.
            let counts: Vec<_> = readers
                .into_iter()
                .map(|mut reader| {
                    scope.spawn(move || {
                        let last = Frame::Text("last".into());
                        let mut frames = reader.until(|frame| *frame == last);
                        frames.pop();
                        let numbers: BTreeSet<_> = frames.iter().map(number).collect();
                        assert_eq!(numbers.len(), frames.len());
                        frames.len() as u64
                    })
                })
                .collect();
            thread::scope(|scope| {
                for publisher in 0..PUBLISHERS {
                    let (accepted, dropped, address) = (&accepted, &dropped, server.address);
                    scope.spawn(move || {
                        for n in 0..EACH {
                            let (a, d) = publish(address, "t", &message(publisher * EACH + n));
                            assert_eq!(a + d, size as u64 + 1);
                            accepted.fetch_add(a, Ordering::SeqCst);
                            dropped.fetch_add(d, Ordering::SeqCst);
                        }
                    });
                }
            });
            // Repeated until everybody has it: a queue may still be full.
            let mut read = 0;
            for count in counts {
                while !count.is_finished() {
                    publish(server.address, "t", "last");
                }
                read += count.join().unwrap();
            }
            read
        });
        let (accepted, dropped) = (accepted.into_inner(), dropped.into_inner());
        assert_eq!(accepted + dropped, PUBLISHERS * EACH * (size as u64 + 1));
        assert!(dropped > 0, "the slow one was meant to miss something");
        // The slow one has what the others have not, whole and no more.
        let rest: BTreeSet<_> = (total..accepted).map(|_| number(&slow.next())).collect();
        assert_eq!(rest.len() as u64, accepted - total);
        assert!(slow.drain().iter().all(|frame| *frame == Frame::Text("last".into())));
    }
}
