/** What a page finds when it is woken is its own trouble: it does not wait in the crowd of a large stage. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Client, createClient } from "../src/index.ts";
import { FakeServer } from "../src/testing.ts";

const HOUR = 60 * 60_000;
let server: FakeServer;
let client: Client;
let page: EventTarget;
beforeEach(async () => {
  vi.useFakeTimers();
  page = new EventTarget();
  vi.stubGlobal("addEventListener", page.addEventListener.bind(page));
  vi.stubGlobal("removeEventListener", page.removeEventListener.bind(page));
  server = new FakeServer();
  server.facts = { expiresIn: 86_400, spread: HOUR };
  client = createClient({ url: "wss://example.test", getToken: () => "t", WebSocket: server.WebSocket });
  await vi.advanceTimersByTimeAsync(10_000); // by now the server has said how large the stage is
});
afterEach(() => {
  client.disconnect();
  vi.useRealTimers();
});

test("a page that comes out of the back/forward cache and hears that its connection has ended is back in a second", async () => {
  page.dispatchEvent(new Event("pageshow"));
  await vi.advanceTimersByTimeAsync(100);
  server.cut();
  await vi.advanceTimersByTimeAsync(1_010);
  expect(client.connected).toBe(true);
});

test("a connection that ends long after the page was woken waits with all the others", async () => {
  page.dispatchEvent(new Event("pageshow"));
  await vi.advanceTimersByTimeAsync(30_000);
  vi.spyOn(Math, "random").mockReturnValue(0.5);
  server.cut();
  await vi.advanceTimersByTimeAsync(0.4 * HOUR);
  expect(client.connected).toBe(false);
});
