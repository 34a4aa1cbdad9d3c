//! Many subscribers, and others who come and go while messages go round.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use futures_util::future::join_all;
use tokio::sync::watch;

use crate::books::{ADMIN, delivered};
use crate::run::{Run, block_on, thousands};
use crate::support::dice::Dice;
use crate::support::ledger::{Checked, Ledger, Stay};
use crate::support::notiflux::{Delivery, Listener, Pause, STRICT, Speaker, Topic};
use crate::support::server::Builder;

/// Who is there from before the first message until after the last.
const STEADY: usize = 1_000;
/// Who comes and goes.
const GUESTS: usize = 60;
const PUBLISHERS: u16 = 4;
/// Messages of each publisher in a round.
const EACH: usize = 750;

pub fn churn(run: &Run) -> String {
    let config = format!("{STRICT}{ADMIN}");
    let mut server = Builder::notiflux().file("config.toml", &config).start();
    let (ledger, topic, address) = (Ledger::default(), Topic::new("t"), server.address);
    let start = Instant::now();
    let (checked, books) = block_on(async {
        let mut steady = subscribers(&ledger, &topic, address, STEADY).await;
        let mut sum = Checked::default();
        for number in 0..run.scale {
            let round = Round { ledger: &ledger, topic: &topic, address, number };
            sum += round.play(run, &mut steady).await;
        }
        // They were one subscription each, however many rounds there were.
        sum.stays -= STEADY * usize::from(run.scale - 1);
        (sum, delivered(server.admin_address(), "ws", sum.deliveries).await)
    });
    let took = start.elapsed().as_secs_f64();
    assert!(server.stop().success(), "the server ended badly");
    format!(
        "{} subscribers and {GUESTS} who came and went, {} messages, {} subscriptions: {} \
         deliveries, each once, in one order ({} a second); {books}",
        thousands(STEADY),
        thousands(checked.messages),
        thousands(checked.stays),
        thousands(checked.deliveries),
        thousands((checked.deliveries as f64 / took) as u64)
    )
}

/// So many messages that what came of them can be kept until it is compared. Between two rounds
/// nothing is published, and who is steady stays.
struct Round<'a> {
    ledger: &'a Ledger,
    topic: &'a Topic,
    address: SocketAddr,
    number: u16,
}

impl<'a> Round<'a> {
    async fn play(&self, run: &Run, steady: &mut [(Listener<'a>, Stay)]) -> Checked {
        let Self { ledger, topic, address, number } = *self;
        let over = watch::Sender::new(false);
        let steady = steady.iter_mut().map(async |(listener, stay)| {
            // What it saw before is compared already, and from here on it misses nothing.
            *stay = Stay { acknowledged: Some(ledger.now()), ..Stay::new(&stay.who) };
            hear(listener, stay, over.subscribe()).await;
            std::mem::replace(stay, Stay::new(&stay.who))
        });
        let guests = (0..GUESTS).map(|index| {
            let guest = Guest { ledger, topic, address, name: index };
            let dice = run.dice(usize::from(number) * GUESTS + index);
            guest.come_and_go(dice, over.subscribe())
        });
        let published = async {
            let publishers = number * PUBLISHERS..(number + 1) * PUBLISHERS;
            let told = publish(ledger, topic, address, publishers, EACH, 0).await;
            over.send_replace(true);
            told
        };
        let all = async { tokio::join!(join_all(steady), join_all(guests), published) };
        let (mut stays, guests, told) = all.await;
        let messages = usize::from(PUBLISHERS) * EACH;
        let short = stays.iter().find(|stay| stay.seen.len() != messages);
        assert!(
            short.is_none(),
            "{} got {} messages",
            short.unwrap().who,
            short.unwrap().seen.len()
        );
        let observed = [stays[0].seen.clone()];
        stays.extend(guests.into_iter().flatten());
        let checked = ledger.check(&observed, &stays).unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!(checked.messages, messages, "messages that came at all");
        // Everybody who left did so in good order, so what was accepted has come.
        let came = Delivery { accepted: checked.deliveries as u64, dropped: 0 };
        assert_eq!(told, came, "what publishers were told, and what came");
        checked
    }
}

/// Clients that are subscribed.
pub async fn subscribers<'a>(
    ledger: &'a Ledger,
    topic: &'a Topic,
    address: SocketAddr,
    count: usize,
) -> Vec<(Listener<'a>, Stay)> {
    let one = |index| async move {
        let listener = Listener::connect(ledger, topic, address).await;
        let mut listener = listener.unwrap_or_else(|error| panic!("cannot connect: {error}"));
        let mut stay = Stay::new(&format!("subscriber {index}"));
        assert!(listener.subscribe(&mut stay).await, "subscriber {index} was disconnected");
        (listener, stay)
    };
    let mut all = Vec::new();
    // Not all at once: the backlog is not what this is about.
    for start in (0..count).step_by(100) {
        all.extend(join_all((start..count.min(start + 100)).map(one)).await);
    }
    all
}

/// Listens until it is over, and to what was on its way then.
pub async fn attend(it: (Listener<'_>, Stay), over: watch::Receiver<bool>) -> Stay {
    let (mut listener, mut stay) = it;
    hear(&mut listener, &mut stay, over).await;
    stay
}

async fn hear(listener: &mut Listener<'_>, stay: &mut Stay, mut over: watch::Receiver<bool>) {
    let pause = listener.listen(stay, usize::MAX, &mut over).await;
    let done = pause == Pause::Over && listener.finish(stay).await;
    assert!(done, "{}, who reads, was disconnected after {} messages", stay.who, stay.seen.len());
}

/// These publishers with so many messages each, of so many bytes and a stamp; what they
/// were told.
pub async fn publish(
    ledger: &Ledger,
    topic: &Topic,
    address: SocketAddr,
    publishers: Range<u16>,
    each: usize,
    bytes: usize,
) -> Delivery {
    let told = join_all(publishers.map(async |publisher| {
        let mut speaker = Speaker::new(ledger, address, publisher, bytes);
        let mut told = Delivery::default();
        for _ in 0..each {
            told += speaker.say(topic).await.unwrap_or_else(|error| panic!("no answer: {error}"));
        }
        told
    }));
    let mut sum = Delivery::default();
    told.await.into_iter().for_each(|told| sum += told);
    sum
}

struct Guest<'a> {
    ledger: &'a Ledger,
    topic: &'a Topic,
    address: SocketAddr,
    name: usize,
}

impl Guest<'_> {
    async fn come_and_go(self, mut dice: Dice, mut over: watch::Receiver<bool>) -> Vec<Stay> {
        let mut stays = Vec::new();
        loop {
            let listener = Listener::connect(self.ledger, self.topic, self.address).await;
            let mut listener = listener.unwrap_or_else(|error| panic!("cannot connect: {error}"));
            // Some subscribe again on the same connection.
            for _ in 0..=dice.below(4) {
                let mut stay = Stay::new(&format!("guest {}", self.name));
                let mut alive = listener.subscribe(&mut stay).await;
                let enough = dice.below(200) as usize;
                let pause = listener.listen(&mut stay, enough, &mut over).await;
                alive &= match pause {
                    Pause::Enough => listener.unsubscribe(&mut stay).await,
                    Pause::Over => listener.finish(&mut stay).await,
                    Pause::Lost => false,
                };
                assert!(alive, "guest {}, who reads, was disconnected", self.name);
                stays.push(stay);
                if pause == Pause::Over {
                    return stays;
                }
            }
            match dice.below(3) {
                0 => listener.peer.close(1000).await.unwrap(),
                1 => listener.peer.reset(),
                _ => drop(listener),
            }
        }
    }
}
