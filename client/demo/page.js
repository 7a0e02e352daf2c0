// What every part of the page uses. Text from elsewhere is shown through textContent: it is never markup.

export const $ = (id) => document.getElementById(id);

export const clock = (at = new Date()) => at.toLocaleTimeString("en-GB");

export function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

/** A shape of an SVG. */
export function shape(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

/** Put an item first in its list, and drop the last one above the limit. */
export function keep(list, item, limit) {
  list.prepend(item);
  while (list.children.length > limit) list.lastChild.remove();
}

/** Ask the local run for what only a backend can do. */
export async function post(path, body) {
  let response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The local run does not answer. Start it: make dev");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

const MESSAGES_KEPT = 200;

/** A line among the messages. */
export function line(event, text, className = "", room = "") {
  const item = element("li");
  const parts = [element("time", clock()), element("strong", event, className), element("span", text, className)];
  if (room) parts[2].append(element("code", room, "chip"));
  item.append(...parts);
  keep($("messages"), item, MESSAGES_KEPT);
}

export const note = (text, className = "note") => line("", text, className);

/** Show what a page and a backend of one's own would have written. */
export function showCode({ browser = "", backend = "" }) {
  $("browser-code").textContent = browser || "// nothing: it listens";
  $("backend-code").textContent = backend || "# nothing: the browser did it by itself";
}
