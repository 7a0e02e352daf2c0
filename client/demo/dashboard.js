// Orders, as they come: three figures, a chart of the last minute, and the latest of them in a table.
import { $, clock, element, keep, note, post, shape, showCode } from "/page.js";

const LATEST = 6;
const SECONDS = 60;
const [LEFT, TOP, BOTTOM] = [28, 8, 22]; // pixels around the chart's plot
const money = new Intl.NumberFormat("en", { style: "currency", currency: "EUR" });

const totals = { updates: 0, orders: 0, turnover: 0 };
const perSecond = new Map();

export function showUpdate(data) {
  const order = data?.type === "new_order";
  totals.updates++;
  if (order) {
    totals.orders++;
    totals.turnover += Number(data.amount) || 0;
  }
  showTotals();
  keep($("latest"), order ? orderRow(data) : otherRow(data), LATEST);
  $("latest-none").hidden = true;
  const second = Math.floor(Date.now() / 1000);
  perSecond.set(second, (perSecond.get(second) ?? 0) + 1);
  draw();
}

function showTotals() {
  $("updates").textContent = totals.updates;
  $("orders").textContent = totals.orders;
  $("turnover").textContent = money.format(totals.turnover);
}

function row(...cells) {
  const made = element("tr");
  made.append(...cells);
  return made;
}

function orderRow({ orderId, customer, amount }) {
  return row(
    element("td", clock()),
    element("td", String(orderId ?? "–")),
    element("td", String(customer ?? "–")),
    element("td", Number.isFinite(amount) ? money.format(amount) : "–", "amount"),
  );
}

function otherRow(data) {
  const { type, ...rest } = Object(data);
  const text = element("td", JSON.stringify(rest), "other");
  text.colSpan = 2;
  return row(element("td", clock()), element("td", String(type ?? "update")), text);
}

function draw() {
  const now = Math.floor(Date.now() / 1000);
  for (const second of perSecond.keys()) if (second <= now - SECONDS) perSecond.delete(second);
  const most = Math.max(4, ...perSecond.values());
  const { clientWidth, clientHeight } = $("chart");
  if (!clientWidth) return; // not shown yet
  const width = clientWidth - LEFT - 4;
  const height = clientHeight - TOP - BOTTOM;
  const y = (count) => TOP + height * (1 - count / most);
  const axis = [];
  for (const count of [0, Math.round(most / 2), most]) {
    axis.push(shape("line", { class: "rule", x1: LEFT, x2: LEFT + width, y1: y(count), y2: y(count) }));
    axis.push(shape("text", { x: LEFT - 8, y: y(count) + 4, "text-anchor": "end" }, count));
  }
  axis.push(shape("text", { x: LEFT, y: clientHeight - 5 }, "60 s ago"));
  axis.push(shape("text", { x: LEFT + width, y: clientHeight - 5, "text-anchor": "end" }, "now"));
  const step = width / SECONDS;
  const bars = [...perSecond].map(([second, count]) =>
    shape("rect", {
      x: LEFT + width - (now - second + 1) * step + 1,
      y: y(count),
      width: Math.max(1, step - 2),
      height: TOP + height - y(count),
      rx: 1,
    }),
  );
  $("chart").replaceChildren(...axis, ...bars);
  $("chart-none").hidden = perSecond.size > 0;
}

/** Place an order as a backend would: the admins' dashboard and the customer's own hear of it. */
export async function placeOrder(me) {
  const order = {
    type: "new_order",
    orderId: Math.random().toString(36).slice(2, 8).toUpperCase(),
    customer: me.name,
    amount: Math.round(500 + Math.random() * 9_500) / 100,
  };
  const rooms = ["dashboard_admin", ...(me.role === "admin" ? [] : [`dashboard_user_${me.userId}`])];
  showCode({
    browser: 'client.on("dashboard:update", (order) => show(order));\nawait client.join("dashboard");',
    backend: rooms.map((room) => `service.send_to_room("${room}", "dashboard:update", order)`).join("\n"),
  });
  try {
    const send = (target) => post("/_demo/send", { to: "room", target, event: "dashboard:update", data: order });
    await Promise.all(rooms.map(send));
  } catch (error) {
    note(error.message, "bad");
  }
}

showTotals();
new ResizeObserver(draw).observe($("chart"));
setInterval(() => perSecond.size && draw(), 1_000);
