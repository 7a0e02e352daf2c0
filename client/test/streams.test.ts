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
const USUAL = 8_000;
const SHORTER = 100;
const LENGTHS: Record<string, number> = { short: SHORTER, usual: USUAL, long: LONGER_THAN_ANY_WINDOW };

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
      now += LENGTHS[length]!;
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

/** The windows of holes, one after another; each is healed `late` milliseconds after it is seen. */
function windows(members: number, ...late: number[]): number[] {
  let now = 0;
  const waits: number[] = [];
  const nothing = () => {};
  const streams = createStreams({
    deliver: nothing,
    ask: nothing,
    recovered: nothing,
    gap: nothing,
    wait: (_, milliseconds) => waits.push(milliseconds),
    now: () => now,
    random: () => 0.5,
  });
  const say = (seq: number) => streams.message("r", { event: "news", data: 0, epoch: "a", seq });
  streams.join("r", false);
  streams.joined("r", { room: "r", success: true, epoch: "a", seq: 0, members });
  late.forEach((milliseconds, index) => {
    now += 60_000;
    say(2 * index + 2);
    now += milliseconds;
    say(2 * index + 1);
  });
  return waits;
}

test("the first window is a second and a part of another", () => {
  expect(windows(0, 10)).toEqual([1_500]);
});

test("a window is twice what overtaking took lately, within bounds", () => {
  const [, grown] = windows(0, 1_400, 10);
  expect(grown).toBe(1.5 * 2_800);
  const many = windows(0, ...Array.from({ length: 100 }, () => 10));
  expect(many.at(-1)).toBe(1.5 * 250);
  expect(windows(0, 100_000, 10)[1]).toBe(1.5 * 10_000);
});

test("the members of a large room ask at different times", () => {
  expect(windows(10_000, 10)[0]).toBe(1_000 + 0.5 * 11_000);
});
