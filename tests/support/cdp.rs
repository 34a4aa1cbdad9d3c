//! Headless Chromium, driven over its `DevTools` protocol.
//!
//! Small on purpose: a tab is asked one thing at a time, clicks and keys are real input
//! events and no calls of page functions, and whatever the page complains about is kept.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use super::{eventually, http};

/// One browser at a time: several that start at once are slower than one after the other,
/// and slow enough on a small machine to miss deadlines.
static TURN: Mutex<()> = Mutex::new(());

/// A running browser with a profile of its own; ended when dropped.
pub struct Browser {
    child: Child,
    address: SocketAddr,
    profile: TempDir,
    _turn: MutexGuard<'static, ()>,
}

/// An open page.
pub struct Tab {
    socket: WebSocket<TcpStream>,
    last_id: u64,
    errors: Vec<String>,
}

impl Browser {
    /// Starts the first browser that is found.
    ///
    /// # Panics
    /// If there is none. Skipping instead would let a broken page pass.
    pub fn start() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let program =
            find().expect("no Chromium in PATH; `scripts/test` installs it (package chromium)");
        let profile = tempfile::tempdir().unwrap();
        let log = profile.path().join("chromium.log");
        let child = Command::new(&program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
            ])
            .args([
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .args(["--disable-dev-shm-usage", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            // What it leaves behind is left in the profile, which is removed.
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let unknown = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut browser = Self { child, address: unknown, profile, _turn: turn };
        let port_file = browser.profile.path().join("DevToolsActivePort");
        eventually("the browser listens", || {
            let ended = browser.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "{} ended: {}",
                program.display(),
                std::fs::read_to_string(&log).unwrap()
            );
            // The first line is the port; before its line break it may be half written.
            let text = std::fs::read_to_string(&port_file).unwrap_or_default();
            let port = text.split_once('\n').and_then(|(port, _)| port.parse().ok());
            browser.address.set_port(port.unwrap_or(0));
            port.is_some()
        });
        browser
    }

    /// Opens an address in a new tab and waits until it is loaded.
    pub fn open(&self, url: &str) -> Tab {
        let answer = http::request(self.address, "PUT", "/json/new?about:blank", &[], b"");
        let target: Value = serde_json::from_str(&answer.text()).unwrap();
        let target = target["webSocketDebuggerUrl"].as_str().unwrap();
        let (socket, _) = client(target, http::connect(self.address)).unwrap();
        let mut tab = Tab { socket, last_id: 0, errors: vec![] };
        // Before the page is loaded: what goes wrong while it loads must not be missed.
        for domain in ["Page", "Runtime", "Log"] {
            tab.call(&format!("{domain}.enable"), &json!({}));
        }
        let navigated = tab.call("Page.navigate", &json!({ "url": url }));
        assert!(navigated.get("errorText").is_none(), "{url}: {navigated}");
        eventually("the page is loaded", || tab.eval("document.readyState") == "complete");
        tab
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to, it ends its helper processes as well. The last of them may still write
        // to the profile for a moment, so that removing it takes more than one attempt.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        within_seconds(5, || !matches!(self.child.try_wait(), Ok(None)));
        let _ = self.child.kill();
        let _ = self.child.wait();
        within_seconds(5, || {
            let _ = std::fs::remove_dir_all(self.profile.path());
            !self.profile.path().exists()
        });
    }
}

/// Polls like [`eventually`], but never panics: that would abort a test that fails already.
#[expect(clippy::disallowed_methods, reason = "no run time here whose worker it could block")]
fn within_seconds(seconds: u64, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !done() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Tab {
    /// The value of an expression; a promise is waited for.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", &params);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// The texts of all elements that match.
    pub fn texts(&mut self, selector: &str) -> Vec<String> {
        let texts = self
            .eval(&format!("[...document.querySelectorAll({selector:?})].map(e => e.textContent)"));
        serde_json::from_value(texts).unwrap()
    }

    /// The text of the one element that matches.
    pub fn text(&mut self, selector: &str) -> String {
        let mut texts = self.texts(selector);
        assert_eq!(texts.len(), 1, "{selector}: {texts:?}");
        texts.remove(0)
    }

    /// Clicks into the middle of an element with the left button.
    pub fn click(&mut self, selector: &str) {
        // Input only reaches the tab in front.
        self.call("Page.bringToFront", &json!({}));
        let place = self.eval(&format!(
            "(() => {{ const element = document.querySelector({selector:?}); \
             element.scrollIntoView({{ block: 'center', behavior: 'instant' }}); \
             const box = element.getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        for event in ["mousePressed", "mouseReleased"] {
            let (x, y) = (&place[0], &place[1]);
            let params =
                json!({ "type": event, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &params);
        }
    }

    /// Clicks into a field and types.
    pub fn type_into(&mut self, selector: &str, text: &str) {
        self.click(selector);
        self.call("Input.insertText", &json!({ "text": text }));
    }

    /// Presses Enter in whatever has the focus.
    pub fn press_enter(&mut self) {
        // Without the text it is a key, but none that submits a form.
        for (event, text) in [("keyDown", "\r"), ("keyUp", "")] {
            let (key, code) = ("Enter", 13);
            let params = json!({
                "type": event, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text
            });
            self.call("Input.dispatchKeyEvent", &params);
        }
    }

    /// What the console has shown in red so far, and exceptions nobody caught.
    pub fn errors(&mut self) -> &[String] {
        // Events come in order, so those up to now come before this answer.
        self.eval("0");
        &self.errors
    }

    /// Calls a method and returns its result; events that come before it are noted.
    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.last_id += 1;
        let text = json!({ "id": self.last_id, "method": method, "params": params }).to_string();
        self.socket.send(Message::text(text)).unwrap();
        loop {
            let message =
                self.socket.read().unwrap_or_else(|e| panic!("no answer to {method}: {e}"));
            let Message::Text(text) = message else { continue };
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.last_id {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        let bad = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => params["type"] == "error",
            Some("Log.entryAdded") => params["entry"]["level"] == "error",
            _ => false,
        };
        if bad {
            self.errors.push(params.to_string());
        }
    }
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut candidates =
        names.iter().flat_map(|name| std::env::split_paths(&path).map(move |dir| dir.join(name)));
    candidates.find(|file| file.is_file())
}
