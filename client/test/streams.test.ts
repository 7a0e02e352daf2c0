/** The rules of streams: the same scenarios as those of the model in Python. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createStreams, type Position } from "../src/streams.ts";

type Json = Record<string, any>;
const path = join(import.meta.dirname, "../../tests/scenarios/streams.json");
const scenarios: { name: string; steps: { in: Json; out?: Json[] }[]; positions: Json }[] = JSON.parse(
  readFileSync(path, "utf8"),
);

const LONGER_THAN_ANY_WINDOW = 120_000;
const SHORTER = 100;

test.each(scenarios)("$name", ({ steps, positions }) => {
  let now = 1_000_000;
  let said: Json[] = [];
  const waits = new Map<string, number>();
  const streams = createStreams({
    deliver: ({ id, seq }, room) => said.push({ deliver: { room, id, ...(seq !== undefined && { seq }) } }),
    ask: (room, since) => said.push({ ask: { room, since } }),
    wait: (room, milliseconds) => waits.set(room, now + milliseconds),
    recovered: (room, count) => said.push({ recovered: { room, count } }),
    gap: (room) => said.push({ gap: room }),
    now: () => now,
    random: () => 0.5,
  });
  const does: Record<string, (value: any, event: Json) => void> = {
    opened(rooms: { room: string; since?: Position }[], { handover = false }) {
      for (const { room, since } of rooms) streams.want(room, since);
      said.push({ join: rooms.map(({ room }) => ({ room, ...streams.join(room, handover) })) });
    },
    joined: (entry) => streams.joined(entry.room, entry),
    message(message) {
      if (!streams.message(message.room, { event: "news", data: 0, ...message })) said.push({ deliver: message });
    },
    history: (page) => streams.history(page.room, page),
    failed: (room) => streams.failed(room),
    pong: (heads) => streams.pong(heads),
    wait(length) {
      now += length === "long" ? LONGER_THAN_ANY_WINDOW : SHORTER;
      for (const [room, at] of [...waits]) if (at <= now && waits.delete(room)) streams.waited(room);
    },
    closed: () => streams.closed(),
    left: (room) => streams.left(room),
  };
  for (const step of steps) {
    said = [];
    const [kind] = Object.keys(step.in).filter((key) => key !== "handover");
    does[kind!]!(step.in[kind!], step.in);
    expect(said, JSON.stringify(step.in)).toEqual(step.out ?? []);
  }
  expect(streams.positions).toEqual(positions);
});
