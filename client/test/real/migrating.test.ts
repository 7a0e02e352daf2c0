/**
 * Runs docs/migrating-from-socketio.md: its `run` blocks, in order, as one program against the local run.
 * What a `console.log(...)` with a comment behind it prints is to be what the comment says, and nothing else is printed.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";
import { expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { LocalRun, until } from "./local-run.ts";

const root = join(import.meta.dirname, "..", "..", "..");

test("every example of the page does what it says", async () => {
  const page = readFileSync(join(root, "docs", "migrating-from-socketio.md"), "utf8");
  const blocks = [...page.matchAll(/^```(js|python) run\n(.*?)^```/gms)].map(([, language, code]) => ({
    language,
    code: code!,
  }));
  expect(blocks.length).toBeGreaterThan(7);
  const opening = blocks.find(({ language }) => language === "python")!.code;
  const program = blocks.map(({ language, code }) =>
    language === "js" ? code : `await python(${JSON.stringify(code === opening ? code : opening + code)});\n`,
  );
  const expected = blocks.flatMap(({ code }) =>
    [...code.matchAll(/console\.log\(.*\).*; \/\/ (.*)$/gm)].map(([, text]) => text),
  );

  const run = await LocalRun.start();
  try {
    const printed: string[] = [];
    vi.stubGlobal("WebSocket", WebSocket);
    vi.stubGlobal("url", run.url);
    vi.stubGlobal("token", await run.token("u1"));
    vi.stubGlobal("python", (code: string) => run.python(code));
    vi.spyOn(console, "log").mockImplementation((...values) => {
      printed.push(values.map((value) => (typeof value === "string" ? value : inspect(value))).join(" "));
    });
    // Inside the repository, so that `roomcast` is found as an application finds it.
    const folder = join(root, "build", "migrating");
    mkdirSync(folder, { recursive: true });
    const end = program.pop()!;
    writeFileSync(join(folder, "program.mjs"), `${program.join("\n")}\nexport { socket };\n`);
    const { socket } = await import(/* @vite-ignore */ `${join(folder, "program.mjs")}?${Date.now()}`);
    await until(() => printed.length >= expected.length - 1, `${expected.length - 1} lines, but ${printed}`);
    writeFileSync(join(folder, "end.mjs"), end);
    vi.stubGlobal("socket", socket);
    await import(/* @vite-ignore */ `${join(folder, "end.mjs")}?${Date.now()}`);
    expect(socket.connected).toBe(false);
    expect(printed.sort()).toEqual(expected.sort());
  } finally {
    await run.end();
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
  }
});
