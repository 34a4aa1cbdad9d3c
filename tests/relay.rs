//! Messages to phones through a gateway, with a data base that says which and where.
//!
//! No protocol is needed for that: the server is built in this process, with one plugin
//! more, through which a test publishes whatever it likes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use pushmux::core::BoxError;
use pushmux::core::config::{Layers, Sources};
use pushmux::core::database::{self, Database};
use pushmux::core::http as answer;
use pushmux::core::inherited::Inherited;
use pushmux::core::message::{Publication, Topic};
use pushmux::core::plan;
use pushmux::core::plugin::{FromConfig, Plugin, ProtocolCx};
use pushmux::core::protocol::Protocol;
use pushmux::core::router::Router;
use pushmux::core::server::Server;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use crate::support::eventually;
use crate::support::http::post_json;
use crate::support::receiver::{Answer, Receiver, Request};

const PATH: &str = "POST /notifications/send-notification.json HTTP/1.1";

/// `POST /` publishes its body as data; the answer says what became of it.
struct Probe(Arc<Router>);

#[derive(Debug, Default, Serialize, Deserialize)]
struct NoKeys {}

impl FromConfig<ProtocolCx> for Probe {
    type Config = NoKeys;

    async fn build(_: NoKeys, cx: ProtocolCx) -> Result<Self, BoxError> {
        Ok(Self(cx.router))
    }
}

impl Protocol for Probe {
    fn routes(self: Arc<Self>) -> BoxedFilter<(Response,)> {
        let publish = move |data: Value| {
            let topic = Topic::new("probe", "1");
            let offline = self.0.reaches_offline(&topic);
            let router = self.0.clone();
            async move {
                let admission = router.admit(0).await.unwrap();
                let publication = Publication { data, ..Publication::new(topic, "text") };
                let delivery = router.publish(publication, &admission).settled().await;
                let (accepted, dropped) = (delivery.accepted, delivery.dropped);
                let body = json!({ "accepted": accepted, "dropped": dropped, "offline": offline });
                answer::json(http::StatusCode::OK, &body)
            }
        };
        warp::post().and(warp::body::json()).then(publish).boxed()
    }
}

/// Everything that servers in this process have logged.
fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();
    LOG.get_or_init(|| {
        let _ = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_ansi(false)
            .with_writer(|| Log)
            .try_init();
        Mutex::default()
    })
}

struct Log;

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        log().lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A server with a relay and its data base, in this process.
struct Relay {
    address: SocketAddr,
    database: Database,
    runtime: Runtime,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<bool>>,
    folder: TempDir,
}

impl Relay {
    fn start(gateway: &Receiver, keys: &str) -> Self {
        Self::with(keys, |relay| relay.set(&gateway.url("/ignored"), 1, "K<>"))
    }

    fn with(keys: &str, prepare: impl FnOnce(&Self)) -> Self {
        log();
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}?mode=rwc", folder.path().join("db").display());
        let config = database::Config { url: url.clone().into(), ..database::Config::default() };
        let mut relay = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            database: Database::open("test", &config).unwrap(),
            runtime: Runtime::new().unwrap(),
            stop: None,
            running: None,
            folder,
        };
        // As careless about letter case as the collation of the real table.
        relay.sql("CREATE TABLE mobile_devices (id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL, device_id VARCHAR(255) NOT NULL COLLATE NOCASE)");
        relay.sql("CREATE TABLE push_notifications_relay (id INTEGER PRIMARY KEY, address VARCHAR(255) NOT NULL, port INTEGER NOT NULL, auth_key VARCHAR(255) NOT NULL, enabled TINYINT NOT NULL DEFAULT 1)");
        prepare(&relay);
        let file = relay.folder.path().join("config.toml");
        let config = format!(
            "[server]\nport = 0\nworkers = 1\n[database.main]\nurl = \"{url}\"\n[sink.relay]\ntype = \"webhook\"\ntarget = \"relay\"\nsettings_cache = \"20ms\"\n{keys}\n[protocol.probe]\n"
        );
        std::fs::write(&file, config).unwrap();
        relay.run(file);
        relay
    }

    fn run(&mut self, file: PathBuf) {
        let sources = Sources { file: Some(file), ..Sources::default() };
        let mut plugins = pushmux::plugins::ALL.to_vec();
        plugins.push(Plugin::protocol::<Probe>("probe"));
        let plan = plan::check(&Layers::read(&sources, &[]), &plugins).plan().unwrap();
        let server = self.runtime.block_on(Server::build(plan, Inherited::default())).unwrap();
        self.address = server.addresses().next().unwrap().0;
        let (stop, stopped) = oneshot::channel::<()>();
        self.stop = Some(stop);
        let handle = self.runtime.handle().clone();
        self.running = Some(std::thread::spawn(move || {
            handle.block_on(server.run(async {
                let _ = stopped.await;
            }))
        }));
    }

    /// Stops the server; whatever was accepted is sent by then.
    fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        assert!(self.running.take().unwrap().join().unwrap(), "stopped in time");
    }

    fn sql(&self, sql: &str) -> u64 {
        self.runtime.block_on(self.database.execute(sql, [])).unwrap()
    }

    fn set(&self, address: &str, port: u16, key: &str) {
        self.sql("DELETE FROM push_notifications_relay");
        self.sql(&format!("INSERT INTO push_notifications_relay (address, port, auth_key) VALUES ('{address}', {port}, '{key}')"));
    }

    fn devices(&self, devices: &[(i64, &str)]) {
        for (user, device) in devices {
            self.sql(&format!(
                "INSERT INTO mobile_devices (user_id, device_id) VALUES ({user}, '{device}')"
            ));
        }
    }

    fn left(&self) -> u64 {
        // The number of rows that a change without change finds.
        self.sql("UPDATE mobile_devices SET user_id = user_id")
    }

    fn publish(&self, data: &Value) -> Value {
        serde_json::from_slice(&post_json(self.address, "/", &data.to_string()).body).unwrap()
    }

    fn is_on(&self) -> bool {
        self.publish(&Value::Null)["offline"] == true
    }

    /// Publishes once the relay is known to be on.
    fn publish_on(&self, data: &Value) {
        eventually("the relay is on", || self.is_on());
        assert_eq!(self.publish(data), json!({ "accepted": 1, "dropped": 0, "offline": true }));
    }
}

fn notice(user_id: i64) -> Value {
    json!({
        "user_id": user_id, "title": "<h> & ü", "body": "line\nline", "type": "host",
        "host_uuid": "c36b8048", "service_uuid": "", "notification_type": "PROBLEM",
        "current_state": 1,
    })
}

fn tokens(requests: &[Request]) -> Vec<String> {
    let token = |request: &Request| {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        body["token"].as_str().unwrap().to_owned()
    };
    let mut tokens: Vec<_> = requests.iter().map(token).collect();
    tokens.sort();
    tokens
}

#[test]
fn every_phone_of_the_user_gets_the_exact_bytes() {
    let gateway = Receiver::start(Answer::Status(200));
    let mut relay = Relay::start(&gateway, "");
    relay.devices(&[(1, "tok&en"), (2, "other"), (1, "another")]);
    relay.publish_on(&notice(1));
    relay.publish_on(&notice(3));
    let foreign = relay.publish(&json!({ "x": 1 }));
    assert_eq!(foreign, json!({ "accepted": 0, "dropped": 0, "offline": true }));
    relay.stop();
    let requests = gateway.requests();
    assert_eq!(tokens(&requests), ["another", "tok&en"]);
    let request = requests.iter().find(|request| request.body.contains("tok\\u0026en")).unwrap();
    assert_eq!(request.line, PATH);
    assert_eq!(
        request.body,
        r#"{"auth_key":"K\u003c\u003e","body":"line\nline","current_state":1,"host_uuid":"c36b8048","notification_type":"PROBLEM","service_uuid":"","title":"\u003ch\u003e \u0026 ü","token":"tok\u0026en","type":"host","user_id":1}"#
    );
    assert_eq!(request.header("x-api-key"), Some("K<>"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("content-length"), Some(&*request.body.len().to_string()));
}

#[test]
fn settings_are_followed_while_it_runs() {
    let (first, second) =
        (Receiver::start(Answer::Status(200)), Receiver::start(Answer::Status(200)));
    let relay = Relay::with("", |relay| relay.devices(&[(1, "a")]));
    let off = json!({ "accepted": 0, "dropped": 0, "offline": false });
    eventually("the relay is known to be off", || relay.publish(&notice(1)) == off);
    relay.set(&first.url(""), 0, "one");
    relay.publish_on(&notice(1));
    assert_eq!(first.wait(1)[0].header("x-api-key"), Some("one"));
    relay.set(&second.url(""), 0, "two");
    eventually("the second gateway is used", || {
        relay.publish(&notice(1));
        !second.requests().is_empty()
    });
    assert_eq!(second.requests()[0].header("x-api-key"), Some("two"));
    // Out of reach, the last settings stay.
    relay.sql("ALTER TABLE push_notifications_relay RENAME TO x");
    let before = second.requests().len();
    std::thread::sleep(std::time::Duration::from_millis(200));
    relay.publish_on(&notice(1));
    second.wait(before + 1);
    relay.sql("ALTER TABLE x RENAME TO push_notifications_relay");
    relay.sql("UPDATE push_notifications_relay SET enabled = 0");
    eventually("the relay is off", || relay.publish(&notice(1)) == off);
}

#[test]
fn a_device_that_is_gone_is_removed_for_every_user_byte_by_byte() {
    let gateway = Receiver::start(Answer::Status(410));
    let mut relay = Relay::start(&gateway, "");
    relay.devices(&[(1, "S3cret-Token"), (2, "S3cret-Token"), (2, "s3cret-token"), (3, "else")]);
    relay.publish_on(&notice(1));
    relay.stop();
    assert_eq!(tokens(&gateway.requests()), ["S3cret-Token"]);
    assert_eq!(relay.left(), 2);
    assert_eq!(relay.sql("DELETE FROM mobile_devices WHERE device_id = 'S3CRET-TOKEN'"), 1);
    let log = String::from_utf8(log().lock().unwrap().clone()).unwrap();
    assert!(log.contains("rows=2"), "{log}");
    let told = log.lines().any(|line| line.to_lowercase().contains("s3cret-token"));
    assert!(!told, "tokens are nobody's business");
}

#[test]
fn other_answers_remove_nothing() {
    let gateway = Receiver::start(Answer::Status(204)).next([404, 500, 400].map(Answer::Status));
    let mut relay = Relay::start(&gateway, "");
    relay.devices(&[(1, "a"), (1, "b"), (1, "c"), (1, "d")]);
    relay.publish_on(&notice(1));
    relay.stop();
    assert_eq!((gateway.requests().len(), relay.left()), (4, 4));
}

#[test]
fn redirects_are_followed_at_home_only_and_with_the_body() {
    let elsewhere = Receiver::start(Answer::Status(200));
    let gateway = Receiver::start(Answer::Status(200));
    let home = |status: u16| Answer::Redirect(status, "/moved".to_owned());
    let away = |status: u16| Answer::Redirect(status, elsewhere.url("/"));
    let gateway = gateway.next([home(307), home(308), Answer::Status(200)]);
    let mut relay = Relay::start(&gateway, "concurrency = 1");
    relay.devices(&[(1, "a")]);
    relay.publish_on(&notice(1));
    let requests = gateway.wait(3);
    assert_eq!(requests[2].line, "POST /moved HTTP/1.1");
    assert_eq!(requests[2].body, requests[0].body);
    assert_eq!(requests[2].header("x-api-key"), Some("K<>"));
    let other_port = Answer::Redirect(307, format!("http://localhost:{}/", gateway.address.port()));
    let answers = [home(301), home(302), home(303), away(302), away(307), away(308), other_port];
    let gateway = gateway.next(answers);
    for _ in 0..7 {
        relay.publish_on(&notice(1));
    }
    gateway.wait(10);
    // For ever in a circle: given up after three.
    let gateway = gateway.next(std::iter::repeat_n(home(307), 10));
    relay.publish_on(&notice(1));
    relay.stop();
    assert_eq!(gateway.requests().len(), 14);
    assert_eq!(elsewhere.requests().len(), 0);
}

#[test]
fn a_gateway_that_hangs_bounds_everything_and_blocks_nobody() {
    let gateway = Receiver::start(Answer::Hang);
    let keys = "concurrency = 2\nqueue_messages = 3\ntimeout = \"30s\"";
    let relay = Relay::start(&gateway, keys);
    let names: Vec<_> = (0..20).map(|number| format!("d{number}")).collect();
    let devices: Vec<_> = names.iter().map(|name| (1, &**name)).collect();
    relay.devices(&devices);
    relay.publish_on(&notice(1));
    relay.publish_on(&notice(1));
    gateway.wait(2);
    let start = std::time::Instant::now();
    let (mut accepted, mut dropped) = (0, 0);
    for _ in 0..50 {
        let answer = relay.publish(&notice(1));
        accepted += answer["accepted"].as_u64().unwrap();
        dropped += answer["dropped"].as_u64().unwrap();
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(accepted + dropped, 50);
    assert!((2..=4).contains(&accepted), "{accepted}: two at work, three waiting");
    assert_eq!((gateway.requests().len(), gateway.peak()), (2, 2));
    gateway.release();
    gateway.wait(20 * (2 + usize::try_from(accepted).unwrap()));
    assert_eq!(gateway.peak(), 2);
}

#[test]
fn settings_that_lead_nowhere_are_said_once_and_harm_nothing() {
    let relay = Relay::with("", |relay| {
        relay.set("https://relay.example.org:s3cret", 443, "k");
        relay.devices(&[(1, "a")]);
    });
    relay.publish_on(&notice(1));
    let text = || String::from_utf8(log().lock().unwrap().clone()).unwrap();
    eventually("the log says so", || text().contains("a port that is no number"));
    assert!(!text().contains(":s3cret"));
}
