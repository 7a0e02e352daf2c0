// The demo page: who this tab is, its client, and the forms.
import { chatIn, lostChat, startChat } from "/chat.js";
import { createClient } from "/client/index.js";
import { resume } from "/client/resume.js";
import { CutWebSocket, watch } from "/connection.js";
import { placeOrder, showUpdate } from "/dashboard.js";
import { $, element, line, note, post, showCode } from "/page.js";

const NAMES = ["Ada", "Grace", "Katherine", "Hedy", "Radia", "Barbara"];

/** Who this tab is: kept over a reload, and not shared with the other tabs. */
let me = JSON.parse(sessionStorage.getItem("me"));
let client;

// Enter

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
    WebSocket: CutWebSocket,
    resume,
  });
  showCode({
    browser: 'const client = createClient({ url, getToken, resume });\nawait client.join("dashboard");',
    backend: "# hands out the token that getToken fetches",
  });
  client.on("client:state", showState);
  client.on("client:retry", ({ delay, reason }) => {
    $("state").textContent = `connecting, next try in ${Math.max(1, Math.round(delay / 1000))} s`;
    note(`not connected: ${reason}`);
  });
  client.on("client:room_lost", ({ room, code, message }) => {
    showRooms();
    lostChat(room);
    if (code !== "forbidden") return;
    $("refused").hidden = false;
    $("refused").dataset.room = room;
    $("refused-text").textContent = `${room}: ${message}`;
  });
  client.on("client:recovered", ({ room, count }) =>
    note(
      `${room}: nothing is missing, ${count || "no"} ${count === 1 ? "message" : "messages"} came while this page was away`,
    ),
  );
  client.on("client:gap", ({ room }) => note(`${room}: messages are missing, load the state again`, "bad"));
  client.on("*", (_, { event, data, room }) =>
    line(event, JSON.stringify(data), /(^|:)error$/.test(event) ? "bad" : "", room),
  );
  client.on("dashboard:update", showUpdate);
  watch(client);
  startChat(client, me);
  join("dashboard");
  showState({ state: client.state });
}

function showState({ state, code = "", reason }) {
  $("state").dataset.state = state;
  $("state").dataset.code = code;
  $("state").textContent = code === "auth_failed" ? "not let in" : state;
  $("connection").textContent = state === "disconnected" ? "Connect" : "Disconnect";
  if (reason && code !== "opened" && code !== "requested") note(`${state}: ${reason}`);
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
  if (answer && room.startsWith("chat_room_")) await chatIn(room);
  showRooms();
}

function showRooms() {
  const rooms = client.rooms;
  $("rooms-none").hidden = rooms.length > 0;
  $("rooms").replaceChildren(
    ...rooms.map((room) => {
      const item = element("li");
      const leave = element("button", "Leave", "small");
      leave.type = "button";
      leave.setAttribute("aria-label", `Leave ${room}`);
      leave.addEventListener("click", () => {
        showCode({ browser: `await client.leave("${room}");` });
        client.leave(room).catch((error) => note(error.message, "bad"));
        lostChat(room);
        showRooms();
      });
      item.append(element("code", room), leave);
      return item;
    }),
  );
}

$("join-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const room = `chat_room_${$("room-id").value}`;
  showCode({ browser: `await client.join("${room}");`, backend: `service.grant_room("${room}", "${me.userId}")` });
  join(room);
});

$("grant").addEventListener("click", async () => {
  const { room } = $("refused").dataset;
  showCode({ browser: `await client.join("${room}");`, backend: `service.grant_room("${room}", "${me.userId}")` });
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
    if (action === "dashboard:join") {
      showCode({ browser: 'await client.join("dashboard");' });
      return join("dashboard");
    }
    showCode({ browser: `const answer = await client.send("${action}");` });
    client.send(action).catch((error) => note(error.message, "bad"));
  });
}

$("connection").addEventListener("click", () => {
  const connected = client.state !== "disconnected";
  showCode({ browser: connected ? "client.disconnect();" : 'client.connect();\nawait client.join("dashboard");' });
  if (connected) return client.disconnect();
  client.connect();
  join("dashboard");
});

// Sending, which a backend does

$("order").addEventListener("click", () => placeOrder(me));

$("to").addEventListener("change", () => {
  const to = $("to").value;
  $("target").disabled = to === "all";
  $("target").value = { user: me.userId, room: "dashboard_admin", all: "" }[to];
});

$("send-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const report = $("report");
  const [to, target, name] = [$("to").value, $("target").value, $("event").value];
  report.className = "hint";
  try {
    const data = JSON.parse($("data").value || "null");
    const call = { user: "send_to_user", room: "send_to_room", all: "broadcast" }[to];
    const values = [...(to === "all" ? [] : [target]), name].map((value) => JSON.stringify(value));
    showCode({
      browser: `client.on(${JSON.stringify(name)}, (data) => show(data));`,
      backend: `report = service.${call}(${values.join(", ")}, ${python(data)})`,
    });
    const { sent, gone, failed, unknown } = await post("/_demo/send", { to, target, event: name, data });
    report.textContent = `sent ${sent}, gone ${gone}, failed ${failed}, unknown ${unknown}`;
  } catch (error) {
    report.className = "problem";
    report.textContent = error.message;
  }
});

/** JSON as Python writes it. */
function python(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value)
      .map(([key, each]) => `${JSON.stringify(key)}: ${python(each)}`)
      .join(", ")}}`;
  }
  return JSON.stringify(value);
}

$("clear").addEventListener("click", () => $("messages").replaceChildren());

if (me) begin();
else if (asked.has("role")) enter($("name").value, asked.get("role"));
