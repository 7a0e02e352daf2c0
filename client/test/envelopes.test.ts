/** The sample envelopes, which the backend's tests run too: so the two ends can not drift apart. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Client, createClient } from "../src/index.ts";
import { FakeServer } from "../src/testing.ts";

const samples = JSON.parse(readFileSync(join(import.meta.dirname, "..", "..", "tests", "envelopes.json"), "utf8"));

let server: FakeServer;
let client: Client;
beforeEach(async () => {
  vi.useFakeTimers();
  server = new FakeServer();
  server.answer = () => undefined;
  server.facts = undefined;
  client = createClient({ url: "wss://example.test", getToken: () => "t", WebSocket: server.WebSocket });
  await vi.advanceTimersByTimeAsync(10);
});
afterEach(() => {
  client.disconnect();
  vi.useRealTimers();
});
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error) => error,
  );

test("the limit is the backend's", async () => {
  const empty = JSON.stringify({ text: "", action: "a", id: "100" }).length;
  const [fits, over] = [0, 3].map((more) =>
    failure(client.send("a", { text: "x".repeat(samples.maxBytes - empty + more) })),
  );
  expect(await over).toMatchObject({ code: "too_large" });
  client.disconnect();
  expect(await fits).toMatchObject({ code: "connection_lost" });
});

describe("what is sent is what the backend parses", () => {
  test.each(samples.actions as any[])("$about", ({ action, fields, text }) => {
    void failure(client.send(action, fields));
    const sent = server.last.received[0]!;
    expect(typeof sent.id).toBe("string");
    expect(JSON.stringify({ ...sent, id: "1" })).toBe(text);
  });
});

describe("what the backend builds is what is heard", () => {
  test.each(samples.events as any[])("$about", async ({ event, data, id, room, replyTo, text }) => {
    const heard: unknown[] = [];
    client.on(event, (...values: unknown[]) => heard.push(values));
    const asked = failure(client.send("ask"));
    const answered =
      replyTo &&
      client.send("ask").then(
        (data) => ({ data }),
        (error) => ({ error }),
      );
    // The sample answers "1"; the client has numbered its action by its own count.
    const envelope = { ...JSON.parse(text), ...(replyTo && { replyTo: server.last.received[1]!.id }) };
    server.last.text(JSON.stringify(envelope));
    if (data?.code === "rate_limited" && replyTo) {
      // Not carried out: it is not told, but sent again after that time.
      const before = server.last.received.length;
      await vi.advanceTimersByTimeAsync(1_500 * data.retryAfter + 200);
      expect(heard).toEqual([]);
      expect(server.last.received.slice(before)).toEqual([server.last.received[1]]);
      client.disconnect();
      expect(await answered).toMatchObject({ error: { code: "connection_lost" } });
      return;
    }
    expect(heard).toEqual([[data, envelope]]);
    expect(envelope).toMatchObject({
      event,
      timestamp: "2025-01-17T10:30:00.000Z",
      ...(id && { id }),
      ...(room && { room }),
    });
    if (replyTo) {
      const error = event.endsWith("error") && expect.objectContaining({ code: data.code, data });
      expect(await answered).toEqual(error ? { error } : { data });
    }
    client.disconnect();
    expect(await asked).toMatchObject({ code: "connection_lost" });
  });
});
