// The demo page. Whatever a message says is shown through textContent: a name or a text is never markup.
import { createClient } from "/client/index.js";
import { resume } from "/client/resume.js";

const $ = (id) => document.getElementById(id);
const MESSAGES_KEPT = 200;
const NAMES = ["Ada", "Grace", "Katherine", "Hedy", "Radia", "Barbara"];

/** Who this tab is: kept over a reload, and not shared with the other tabs. */
let me = JSON.parse(sessionStorage.getItem("me"));
let client;

async function post(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

function element(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

const clock = () => new Date().toLocaleTimeString("en-GB");

// Enter and leave

const asked = new URLSearchParams(location.search);
$("name").value = asked.get("name") ?? NAMES[Math.floor(Math.random() * NAMES.length)];

$("enter-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  await enter($("name").value, event.submitter?.value ?? "user");
});

async function enter(name, role) {
  try {
    me = await post("/_demo/token", { name, role });
  } catch (error) {
    $("enter-problem").textContent = error.message;
    return;
  }
  sessionStorage.setItem("me", JSON.stringify(me));
  begin();
}

function begin() {
  $("enter").hidden = true;
  $("inside").hidden = false;
  $("who").hidden = $("state").hidden = false;
  $("who").textContent = `${me.name} · ${me.role} · user id ${me.userId}`;
  document.title = `${me.name} (${me.role}) · Roomcast`;
  const other = me.role === "admin" ? "user" : "admin";
  $("other-tab").textContent = `Open a second tab as ${other}`;
  $("other-tab").href = `/?role=${other}&name=${NAMES.find((name) => name !== me.name)}`;
  $("target").value = me.userId;
  for (const value of [me.userId, "dashboard_admin", `dashboard_user_${me.userId}`, "chat_room_lobby"]) {
    $("targets").append(Object.assign(document.createElement("option"), { value }));
  }

  client = createClient({
    url: location.origin.replace(/^http/, "ws"),
    // Asked anew before every attempt: after a restart of the local run this is how one gets in again.
    getToken: async () => (await post("/_demo/token", me)).token,
    reconnectWindow: 1_000, // a handful of tabs, not a fleet
    resume,
  });
  client.on("client:state", showState);
  client.on("client:retry", ({ delay, reason }) => {
    $("state").textContent = `connecting, next try in ${Math.max(1, Math.round(delay / 1000))} s`;
    note(`not connected: ${reason}`);
  });
  client.on("client:room_lost", ({ room, code, message }) => {
    showRooms();
    if (code !== "forbidden") return;
    $("refused").hidden = false;
    $("refused").dataset.room = room;
    $("refused-text").textContent = message;
  });
  client.on("client:recovered", ({ room, count }) =>
    note(`${room}: nothing is missing, ${count || "no"} messages came while this page was away`),
  );
  client.on("client:gap", ({ room }) => note(`${room}: messages are missing, load the state again`, "bad"));
  client.on("*", (data, envelope) => showMessage(envelope));
  client.on("dashboard:update", showUpdate);
  join("dashboard");
  showState({ state: client.state });
}

function showState({ state, code = "", reason }) {
  $("state").dataset.state = state;
  $("state").dataset.code = code;
  $("state").textContent = code === "auth_failed" ? "not let in" : state;
  $("connection").textContent = state === "disconnected" ? "Connect" : "Disconnect";
  if (reason) note(`${state}: ${reason}`);
  showRooms();
}

// Rooms and actions

async function join(room) {
  $("refused").hidden = true;
  const joined = client.join(room);
  showRooms();
  // Why it failed is told by `client:room_lost` or the state.
  const answer = await joined.catch(() => undefined);
  if (room === "dashboard" && answer) $("dashboard-room").textContent = answer.room;
  if (answer) note(`joined ${room}`);
  showRooms();
}

function showRooms() {
  const rooms = client.rooms;
  $("rooms-none").hidden = rooms.length > 0;
  $("rooms").replaceChildren(
    ...rooms.map((room) => {
      const item = element("li", "");
      const leave = element("button", "Leave");
      leave.type = "button";
      leave.setAttribute("aria-label", `Leave ${room}`);
      leave.addEventListener("click", () => {
        client.leave(room).catch((error) => note(error.message, "bad"));
        showRooms();
      });
      item.append(element("code", room), leave);
      return item;
    }),
  );
}

$("join-form").addEventListener("submit", (event) => {
  event.preventDefault();
  join(`chat_room_${$("room-id").value}`);
});

$("grant").addEventListener("click", async () => {
  const { room } = $("refused").dataset;
  try {
    await post("/_demo/grant", { room, userId: me.userId });
    await join(room);
  } catch (error) {
    note(error.message, "bad");
  }
});

for (const button of document.querySelectorAll("[data-action]")) {
  button.addEventListener("click", () => {
    const { action } = button.dataset;
    if (action === "dashboard:join") join("dashboard");
    else client.send(action).catch((error) => note(error.message, "bad"));
  });
}

$("connection").addEventListener("click", () => {
  if (client.state !== "disconnected") return client.disconnect();
  client.connect();
  join("dashboard");
});

// Sending, which a backend does

$("order").addEventListener("click", async () => {
  const order = {
    type: "new_order",
    orderId: Math.random().toString(36).slice(2, 8).toUpperCase(),
    customer: me.name,
    amount: Math.round(500 + Math.random() * 9_500) / 100,
  };
  const send = (target) => post("/_demo/send", { to: "room", target, event: "dashboard:update", data: order });
  try {
    await Promise.all([send("dashboard_admin"), me.role === "admin" || send(`dashboard_user_${me.userId}`)]);
  } catch (error) {
    note(error.message, "bad");
  }
});

$("to").addEventListener("change", () => {
  const to = $("to").value;
  $("target").disabled = to === "all";
  $("target").value = { user: me.userId, room: "dashboard_admin", all: "" }[to];
});

$("send-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const report = $("report");
  report.className = "hint";
  try {
    const { sent, gone, failed, unknown } = await post("/_demo/send", {
      to: $("to").value,
      target: $("target").value,
      event: $("event").value,
      data: JSON.parse($("data").value || "null"),
    });
    report.textContent = `sent ${sent}, gone ${gone}, failed ${failed}, unknown ${unknown}`;
  } catch (error) {
    report.className = "problem";
    report.textContent = error.message;
  }
});

// What comes

function line(...parts) {
  const item = element("li", "");
  item.append(element("time", clock()), ...parts);
  return item;
}

function keep(list, item, limit) {
  list.prepend(item);
  while (list.children.length > limit) list.lastChild.remove();
}

function note(text, className = "note") {
  keep($("messages"), line(element("span", "·", className), element("span", text, className)), MESSAGES_KEPT);
}

function showMessage({ event, data, room }) {
  const bad = /(^|:)error$/.test(event) ? "bad" : "";
  const text = `${JSON.stringify(data)}${room ? `  (${room})` : ""}`;
  keep($("messages"), line(element("strong", event, bad), element("span", text, bad)), MESSAGES_KEPT);
}

$("clear").addEventListener("click", () => $("messages").replaceChildren());

const totals = { updates: 0, orders: 0, turnover: 0 };
const perSecond = new Map();

function showUpdate(data) {
  totals.updates++;
  if (data?.type === "new_order") {
    totals.orders++;
    totals.turnover += Number(data.amount) || 0;
  }
  $("updates").textContent = totals.updates;
  $("orders").textContent = totals.orders;
  $("turnover").textContent = totals.turnover.toFixed(2);
  const { type, ...rest } = Object(data);
  const text = Object.entries(rest)
    .map(([key, value]) => `${key} ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(", ");
  keep($("latest"), line(element("strong", String(type)), element("span", text)), 5);
  $("latest-none").hidden = true;
  const second = Math.floor(Date.now() / 1000);
  perSecond.set(second, (perSecond.get(second) ?? 0) + 1);
  draw();
}

function draw() {
  const now = Math.floor(Date.now() / 1000);
  for (const second of perSecond.keys()) if (second <= now - 60) perSecond.delete(second);
  const most = Math.max(4, ...perSecond.values());
  $("chart").replaceChildren(
    ...[...perSecond].map(([second, count]) => {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const height = (20 * count) / most;
      for (const [key, value] of Object.entries({ x: 59.1 - (now - second), y: 20 - height, width: 0.8, height })) {
        bar.setAttribute(key, value);
      }
      return bar;
    }),
  );
}
setInterval(() => perSecond.size && draw(), 1_000);

if (me) begin();
else if (asked.has("role")) enter($("name").value, asked.get("role"));
