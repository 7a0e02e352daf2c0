/**
 * The CommonJS build among the globals of other places than a current browser or Node, and no others: each lacks
 * something. `npm run test:real` has the real tools; these say at once which global was taken for granted.
 */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { compileFunction, createContext, runInContext } from "node:vm";
import { afterEach, beforeEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import { ProtocolServer } from "./protocol-server.ts";

const dist = join(import.meta.dirname, "..", "dist", "cjs");

let server: ProtocolServer;
beforeEach(async () => {
  server = await ProtocolServer.start();
});
afterEach(() => server.close());

/** What every place has. The language's own globals come with the context. */
const TIMERS = { setTimeout, clearTimeout, setInterval, clearInterval, queueMicrotask, console };
/** What `abort-controller` and jsdom before 22 have: no reason, no throwIfAborted, no AbortSignal.timeout or any. */
const OLD_ABORT = `
  class AbortSignal {
    constructor() { this.aborted = false; this.listeners = new Set(); }
    addEventListener(type, listener) { this.listeners.add(listener); }
    removeEventListener(type, listener) { this.listeners.delete(listener); }
  }
  class AbortController {
    constructor() { this.signal = new AbortSignal(); }
    abort() { this.signal.aborted = true; for (const listener of this.signal.listeners) listener(); }
  }
  globalThis.AbortSignal = AbortSignal; globalThis.AbortController = AbortController;`;
/** An event target of before \`signal\` was an option, which refuses what it does not know. */
const target = () => ({ addEventListener() {}, removeEventListener() {} });

const PLACES: Record<string, { globals: object; code?: string }> = {
  "React Native": {
    // No document, no addEventListener, no crypto, no TextEncoder, no atob before 0.74.
    globals: { WebSocket, fetch, navigator: { product: "ReactNative" }, performance: { now: () => 0 } },
    code: `globalThis.window = globalThis; ${OLD_ABORT}`,
  },
  "Jest 27 with jsdom": {
    // No fetch, no TextEncoder, no structuredClone.
    globals: {
      WebSocket,
      atob,
      ...target(),
      document: { visibilityState: "visible", ...target() },
      navigator: { onLine: true },
    },
    code: `globalThis.window = globalThis; ${OLD_ABORT}`,
  },
  "a page over http on a LAN": {
    // Not a secure context: crypto without randomUUID and subtle.
    globals: {
      ...{ WebSocket, fetch, atob, TextEncoder, AbortController, AbortSignal, EventTarget, Event },
      ...target(),
      document: { visibilityState: "visible", ...target() },
      navigator: { onLine: true },
      crypto: { getRandomValues: <T>(array: T) => array },
    },
    code: "globalThis.window = globalThis;",
  },
  "a worker": {
    globals: {
      WebSocket,
      fetch,
      atob,
      TextEncoder,
      AbortController,
      AbortSignal,
      ...target(),
      navigator: { onLine: true },
      location: {},
    },
    code: "globalThis.self = globalThis;",
  },
  "Node 18": {
    globals: { fetch, atob, TextEncoder, AbortController, AbortSignal, process: { env: {} }, EventTarget, Event },
  },
  "a bare engine with a WebSocket": { globals: {} },
};

/** A `require` of the built modules inside a context. */
function loader(context: object): (name: string) => any {
  const modules = new Map<string, { exports: any }>();
  const load = (path: string): any => {
    if (!modules.has(path)) {
      const module = { exports: {} };
      modules.set(path, module);
      const run = compileFunction(readFileSync(path, "utf8"), ["exports", "module", "require"], {
        parsingContext: context,
      });
      run(module.exports, module, (name: string) => load(join(dirname(path), name)));
    }
    return modules.get(path)!.exports;
  };
  return (name) => load(join(dist, `${name}.js`));
}

test.each(Object.entries(PLACES))("connects in %s, by each entry", async (_, { globals, code = "" }) => {
  const context = createContext({ ...TIMERS, ...globals });
  runInContext(code, context);
  const load = loader(context);
  const { url } = server;
  const options = { url, getToken: () => "t", WebSocket };

  const client = load("index").createClient(options);
  const retries: unknown[] = [];
  client.on("client:retry", ({ reason }: { reason: string }) => retries.push(reason));
  expect(await Promise.race([client.join("dashboard"), failed(retries)])).toMatchObject({ success: true });
  await expect(client.send("unknown", { text: "é".repeat(20_000) })).rejects.toMatchObject({ code: "too_large" });
  await expect(client.send("unknown", { text: "é" })).rejects.toMatchObject({ code: "unknown_action" });
  client.disconnect();

  const socket = load("io").io(url, { auth: { token: "t" }, WebSocket });
  await new Promise((resolve) => socket.on("connect", resolve));
  expect(socket.id).toMatch(/^[\w-]{20,}$/);
  socket.disconnect();

  const { initSocket, joinDashboard, disconnectSocket } = load("socket");
  initSocket({ url, token: "t", WebSocket });
  expect(await joinDashboard()).toMatchObject({ success: true });
  disconnectSocket();
});

/** Rejects as soon as an attempt has failed, with the reason for it. */
async function failed(retries: unknown[]): Promise<never> {
  while (!retries.length) await new Promise((resolve) => setTimeout(resolve, 20));
  throw new Error(`${retries}`);
}
