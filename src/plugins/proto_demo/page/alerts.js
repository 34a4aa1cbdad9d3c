// An alert from monitoring

const KEPT_ALERTS = 50, RETRY_MS = 3_000, FIRST_KEEP_ALIVE_MS = 10_000, KEEP_ALIVE_MS = 30_000;
const STATES = { host: ["UP", "DOWN", "UNREACHABLE"], service: ["OK", "WARNING", "CRITICAL", "UNKNOWN"] };

let monitoring;  // what /demo/monitoring answered: { key, user, hosts, services }

async function askMonitoring() {
  const response = await fetch("/demo/monitoring");
  if (!response.ok) throw new Error(`status ${response.status}`);
  monitoring = await response.json();
}

// What receives alerts

/** A browser or a phone: a line that is kept until somebody disconnects it. */
class Device {
  constructor(id, dial, heard) {
    Object.assign(this, { root: $(id), dial, heard, wanted: true, tries: 0 });
    this.button = this.root.querySelector("button");
    this.button.addEventListener("click", () => this.want(!this.wanted));
    this.want(true);
  }

  want(wanted) {
    this.wanted = wanted;
    say(this.button, wanted ? "Disconnect" : "Connect");
    if (wanted) return this.connect();
    this.tries++;  // what is under way is not wanted any more
    this.socket?.close();
    this.tell("disconnected", true);
  }

  tell(text, bad = false) {
    say(this.root.querySelector(".line"), text, bad);
  }

  async connect() {
    const mine = ++this.tries;
    const again = () => {
      if (mine !== this.tries) return;
      this.tell("reconnecting", true);
      setTimeout(() => mine === this.tries && this.connect(), RETRY_MS);
    };
    try {
      await askMonitoring();  // a server that was restarted has a new key
    } catch {
      return again();
    }
    if (mine !== this.tries) return;
    const socket = this.socket = this.dial();
    socket.onclose = again;
    socket.onmessage = event => mine === this.tries && this.heard(this, JSON.parse(event.data));
  }

  show(title, text, level, details) {
    const item = element("li", level, "");
    item.append(element("span", "time", new Date().toLocaleTimeString()), element("span", "title", title),
      element("span", "text", text));
    if (details) {
      const more = item.appendChild(document.createElement("details"));
      more.append(element("summary", "", "What the gateway was sent"), element("pre", "", details));
    }
    add(this.root.querySelector("ol"), item, KEPT_ALERTS);
  }
}

/** Says and does what openITCOCKPIT's front end does on its connection. */
function browser(id) {
  const browserUuid = crypto.randomUUID();
  let alive;
  const dial = () => {
    const query = new URLSearchParams({ userId: monitoring.user, browserUuid });
    return new WebSocket(wsUrl(`/push_notifications?${query}`), ["access_token", monitoring.key]);
  };
  const keepAlive = (socket, after) => {
    clearTimeout(alive);
    alive = setTimeout(() => {
      if (socket.readyState !== WebSocket.OPEN) return;
      socket.send(JSON.stringify({ type: "KeepAlive", message: "KeepAlive" }));
      keepAlive(socket, KEEP_ALIVE_MS);
    }, after);
  };
  return new Device(id, dial, (device, { type, message, payload }) => {
    if (type === "ConnectionEstablished") {
      const register = { clientUuid: payload.clientUuid, browserUuid };
      device.socket.send(JSON.stringify({ type: "RegisterBrowserPushNotification", message: "", payload: register }));
      keepAlive(device.socket, FIRST_KEEP_ALIVE_MS);
      device.tell("registered");
    } else if (type === "ProcessPushNotification") {
      const state = payload.icon?.match(/Icon([A-Z]+)\.png$/)?.[1];
      device.show(payload.title, message, levelOf(state));
    }
  });
}

function phone(id) {
  const dial = () => {
    const socket = new WebSocket(wsUrl("/demo/phone"));
    socket.onopen = () => device.tell("switched on");
    return socket;
  };
  const device = new Device(id, dial, (device, push) => {
    const state = STATES[push.type]?.[push.current_state];
    device.show(push.title, push.body, levelOf(state), JSON.stringify(push, null, 2));
  });
}

const levelOf = state => ({ UP: "good", OK: "good", WARNING: "warning", DOWN: "critical", UNREACHABLE: "critical",
  CRITICAL: "critical" })[state] ?? "";

// Sending one

/** What is chosen, as Naemon would say it. */
function chosen() {
  const [type, uuid] = $("object").value.split(" "), state = Number($("level").value);
  const service = monitoring.services.find(service => service.uuid === uuid);
  return {
    type: type === "host" ? "Host" : "Service", notificationtype: state === 0 ? "RECOVERY" : "PROBLEM",
    hostUuid: service?.host ?? uuid, serviceUuid: service?.uuid ?? "", state, output: $("output").value,
  };
}

$("alert").addEventListener("submit", async event => {
  event.preventDefault();
  const about = { timestamp: Math.floor(Date.now() / 1000), userId: monitoring.user, icon: "", ackauthor: "", ackcomment: "" };
  const headers = { "Content-Type": "application/json" }, body = JSON.stringify({ ...about, ...chosen() });
  try {
    const response = await fetch("/message", { method: "POST", headers, body });
    const text = (await response.text()).trim();
    const meaning = { 200: "the server took it.", 202: "nobody listens." }[response.status] ?? "the server refused it.";
    say($("alert-result"), `${response.status} “${text}”: ${meaning}`, response.status !== 200);
  } catch (error) {
    say($("alert-result"), `Not sent: ${error.message}`, true);
  }
});

function showCommand() {
  const { type, notificationtype, hostUuid, serviceUuid, state, output } = chosen();
  const service = serviceUuid && ` --serviceuuid ${serviceUuid}`;
  say($("command"), `OITC_ADDRESS=${location.host} pushmux send --type ${type} --notificationtype ${notificationtype} \\\n`
    + `  --hostuuid ${hostUuid}${service} --state ${state} \\\n  --output ${quoted(output)} --user-id ${monitoring.user}`);
}

function showStates() {
  const [type] = $("object").value.split(" ");
  const options = STATES[type].map((name, state) => new Option(name, state));
  $("level").replaceChildren(...options);
  $("level").value = type === "host" ? 1 : 2;
  $("output").value = type === "host" ? "no answer to ping" : "limit exceeded";
}

$("object").addEventListener("change", showStates);
$("alert").addEventListener("input", showCommand);
$("alert").addEventListener("change", showCommand);
copies($("command-copy"), $("command"));

async function startAlerts() {
  await askMonitoring();
  if (monitoring === null) return;  // this server has no such part
  const { hosts, services, user } = monitoring;
  const group = (label, options) => {
    const made = document.createElement("optgroup");
    made.label = label;
    made.append(...options);
    return made;
  };
  const hostName = uuid => hosts.find(host => host.uuid === uuid)?.name;
  $("object").append(
    group("Hosts", hosts.map(({ name, uuid }) => new Option(name, `host ${uuid}`))),
    group("Services", services.map(({ name, uuid, host }) => new Option(`${hostName(host)}/${name}`, `service ${uuid}`))),
  );
  say($("user"), `${user}`);
  showStates();
  showCommand();
  $("alerts").hidden = false;
  browser("browser-a");
  browser("browser-b");
  phone("phone");
}

startAlerts();
