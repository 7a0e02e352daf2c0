// A chat of one room, with nothing but what every page can use: publish, signals, the room's history, presence.
import { presence } from "/client/presence.js";
import { $, clock, element, showCode } from "/page.js";

const SHOWN = 100;
const TYPING = 3_000; // ms for which "is typing" is shown, and after which it is said again

let client, me, room, isShown, saidTyping, lookAway;
let away; // [when the connection was lost, when it was back], epoch milliseconds
const typing = new Map(); // by user id: {name, timer}

export function startChat(theClient, who) {
  [client, me] = [theClient, who];
  client.on("client:state", ({ state, previous }) => {
    if (previous === "connected") away = [Date.now(), Infinity];
    else if (state === "connected" && away) away[1] = Date.now();
    if (state === "connected" && room && !isShown) chatIn(room);
  });
  client.on("chat:message", (data, envelope) => envelope.room === room && show(envelope));
  client.on("chat:typing", (_, envelope) => envelope.room === room && showTyping(envelope.from));
  client.on("client:gap", (gap) => gap.room === room && chatIn(room));
}

/** Show a room that was joined: what it keeps first, then what comes. */
export async function chatIn(joined) {
  if (room !== joined) {
    lookAway?.();
    $("here").textContent = "";
    lookAway = presence(client, joined, showWhoIsHere);
  }
  room = joined;
  $("chat-room").textContent = room;
  $("talk").hidden = false;
  const answer = await client.send("rooms:history", { room, limit: SHOWN }).catch(() => undefined);
  isShown = answer !== undefined; // otherwise the next connection asks again
  if (!answer) return;
  const { messages } = answer;
  $("chat").replaceChildren();
  if (messages.length === 0) $("chat").append(element("li", "Nobody has said anything yet.", "aside"));
  for (const envelope of messages) if (envelope.event === "chat:message") show(envelope);
}

export function lostChat(left) {
  if (left !== room) return;
  lookAway();
  room = undefined;
  $("chat-room").textContent = "";
  $("talk").hidden = true;
}

function showWhoIsHere({ count, listed, users }) {
  const names = users.map(({ id, name }) => (id === me.userId ? "you" : name || id)).sort();
  $("here").textContent = listed ? `Here now: ${names.join(", ")}` : `${count} people are here now`;
}

function show({ data, from, timestamp }) {
  const at = Date.parse(timestamp);
  const missed = away && at >= away[0] && at <= away[1] ? "missed" : "";
  const item = element("li", "", from?.id === me.userId ? "mine" : missed);
  const note = missed ? " · came while you were away" : "";
  const text = data?.message ?? data?.text ?? JSON.stringify(data);
  item.append(
    element("span", `${from?.name || from?.id || "a backend"} · ${clock(new Date(at))}${note}`, "who-said"),
    element("span", String(text)),
  );
  const list = $("chat");
  list.querySelector(".aside")?.remove();
  list.append(item);
  while (list.children.length > SHOWN) list.firstChild.remove();
  list.parentElement.scrollTop = list.scrollHeight;
  stopTyping(from?.id);
}

$("chat-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const message = $("say").value;
  const roomId = room.replace("chat_room_", "");
  showCode({
    browser: [
      'client.on("chat:message", ({ message }, { from }) => show(from.name, message));',
      `await client.send("chat:send_message", ${JSON.stringify({ roomId, message })});`,
    ].join("\n"),
  });
  try {
    $("say").value = "";
    await client.send("chat:send_message", { roomId, message });
  } catch (error) {
    $("say").value ||= message;
    $("typing").textContent = error.message;
  }
});

// Typing: said at most every three seconds, shown for as long, never stored.
$("say").addEventListener("input", () => {
  if (client.state !== "connected" || Date.now() < saidTyping + TYPING) return;
  saidTyping = Date.now();
  client.send("rooms:signal", { room, event: "chat:typing", data: {} }).catch(() => {}); // nobody misses it
});
saidTyping = 0;

function showTyping({ id, name }) {
  stopTyping(id);
  typing.set(id, { name, timer: setTimeout(() => stopTyping(id), TYPING + 1_000) });
  sayWhoTypes();
}

function stopTyping(id) {
  clearTimeout(typing.get(id)?.timer);
  if (typing.delete(id)) sayWhoTypes();
}

function sayWhoTypes() {
  const names = [...typing.values()].map(({ name }) => name);
  $("typing").textContent = names.length ? `${names.join(", ")} ${names.length > 1 ? "are" : "is"} typing …` : "";
}
