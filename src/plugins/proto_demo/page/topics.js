// Publish and subscribe

const KEPT_MESSAGES = 200, PENDING_MS = 60_000, BACKOFF_MS = 250, MAX_BACKOFF_MS = 5_000;

let socket, failures = 0;          // the connection, and how often in a row it ended or failed
let wanted = null, active = null;  // the topic to listen to, and the one the server acknowledged
let syncing = false;               // one of these is on its way to be the other
let waiting = null;                // the command to be acknowledged: { yes, no, resolve, reject }
const tokens = new Map();          // topic -> what /demo/tokens answered
const pending = new Map();         // message -> when it was sent, oldest first, until it arrives

async function tokensFor(topic) {
  const kept = tokens.get(topic);
  if (kept && performance.now() < kept.until) return kept;
  const response = await fetch("/demo/tokens?topic=" + encodeURIComponent(topic));
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `no tokens, status ${response.status}`);
  answer.until = performance.now() + answer.expires_in * 900;  // 90 % of their life
  tokens.set(topic, answer);
  return answer;
}

// The connection

function connect() {
  socket = new WebSocket(wsUrl("/ws?ack=true"));
  socket.onopen = () => {
    failures = 0;
    tokens.clear();  // a server that was restarted has new keys
    say($("state"), "connected");
    sync();
    showCurl();
  };
  socket.onmessage = event => received(event.data, performance.now());
  socket.onclose = () => {
    active = null;
    pending.clear();
    waiting?.reject(new Error("the connection was lost"));
    say($("state"), "reconnecting", true);
    if (wanted !== null) say($("ack"), `Will subscribe to “${wanted}” once connected.`);
    // Half of the delay is random, so that many tabs do not come back at the same moment.
    const delay = Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** failures++);
    setTimeout(connect, delay * (0.5 + Math.random() / 2));
  };
}

function command(text, yes, no) {
  return new Promise((resolve, reject) => {
    waiting = { yes, no, resolve, reject };
    socket.send(text);
  }).finally(() => waiting = null);
}

/** Brings the server from what is subscribed to what is wanted, whatever changes meanwhile. */
async function sync() {
  if (syncing) return;
  syncing = true;
  try {
    while (socket.readyState === WebSocket.OPEN && active !== wanted) {
      const topic = wanted, mine = socket;
      const token = topic !== null && (await tokensFor(topic)).subscribe;
      if (mine !== socket || topic !== wanted) continue;
      const since = performance.now();
      if (active !== null) {
        await command(`/unsubscribe ${active}`, `/unsubscribed ${active}`);
        say($("ack"), `Unsubscribed from “${active}”.`);
        active = null;
      } else {
        await command(`/subscribe ${topic} ${token}`, `/subscribed ${topic}`, `/denied ${topic} `);
        active = topic;
        say($("ack"), `Subscribed to “${topic}”, acknowledged after ${(performance.now() - since).toFixed(1)} ms.`);
      }
    }
  } catch (error) {
    // After a lost connection it stays wanted, for the next one. A refusal is final.
    if (socket.readyState === WebSocket.OPEN) {
      tokens.delete(wanted);
      wanted = active;
      say($("ack"), `Not done: ${error.message}`, true);
    }
  }
  syncing = false;
  showButton();
}

function received(frame, at) {
  // Only what is waited for is an answer: a message may well read "/subscribed demo".
  if (frame === waiting?.yes) return waiting.resolve();
  if (waiting?.no && frame.startsWith(waiting.no)) return waiting.reject(new Error(frame.slice(waiting.no.length)));
  const since = pending.get(frame)?.shift();
  show(frame, at - since < PENDING_MS ? `${(at - since).toFixed(1)} ms` : null);
}

function show(text, latency) {
  const item = document.createElement("li");
  const parts = { time: new Date().toLocaleTimeString(), text, latency: latency ?? "from elsewhere" };
  for (const [name, content] of Object.entries(parts)) item.append(element("span", name, content));
  item.lastChild.classList.toggle("own", latency !== null);
  add($("messages"), item, KEPT_MESSAGES);
}

// Publishing

async function publish(topic, message, again = true) {
  const { broadcast: token } = await tokensFor(topic);
  const headers = { "Content-Type": "application/json" }, body = JSON.stringify({ topic, message, token });
  const since = performance.now(), times = pending.get(message) ?? [];
  if (topic === active) pending.set(message, times), times.push(since);
  const response = await fetch("/broadcast", { method: "POST", headers, body });
  const text = await response.text();
  if (response.ok) return text ? JSON.parse(text) : {};
  // It never arrives, and a later message with the same text must not take its time.
  if (times.includes(since)) times.splice(times.indexOf(since), 1);
  tokens.delete(topic);  // perhaps from before a restart
  if (again && (response.status === 401 || response.status === 403)) return publish(topic, message, false);
  throw new Error(`status ${response.status} ${text.slice(0, 200)}`);
}

function counted({ accepted, dropped = 0 }, topic) {
  if (accepted === undefined) return "Published.";
  if (accepted + dropped === 0) return `Published, but nobody listens to “${topic}”.`;
  return `Published: ${accepted} receiver${accepted === 1 ? "" : "s"} accepted it${dropped ? `, ${dropped} dropped` : ""}.`;
}

$("send").addEventListener("submit", async event => {
  event.preventDefault();
  const topic = $("topic").value, message = $("message").value;
  if (!$("topic").reportValidity()) return;
  try {
    say($("result"), counted(await publish(topic, message), topic));
    if ($("message").value === message) $("message").value = "";
  } catch (error) {
    say($("result"), `Not published: ${error.message}`, true);
  }
});

// The topic

const showButton = () => $("subscribe").textContent = wanted === $("topic").value ? "Unsubscribe" : "Subscribe";

async function showCurl() {
  const topic = $("topic").value;
  let text = "# Choose a topic without blanks first.";
  try {
    if ($("topic").checkValidity()) {
      const body = { topic, message: "hello from a terminal", token: (await tokensFor(topic)).broadcast };
      text = `curl ${location.origin}/broadcast \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(JSON.stringify(body))}`;
    }
  } catch (error) {
    text = `# No command for this topic: ${error.message}`;
  }
  if (topic === $("topic").value) say($("curl"), text);
}

$("listen").addEventListener("submit", event => {
  event.preventDefault();
  wanted = wanted === $("topic").value ? null : $("topic").value;
  showButton();
  sync();
});

$("topic").addEventListener("input", showButton);
$("topic").addEventListener("change", showCurl);

copies($("copy"), $("curl"));
connect();
