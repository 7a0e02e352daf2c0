/**
 * Runs the pages of docs/ that show how to do a thing: their `run` blocks, in order, as one program against the local
 * run. What a `console.log(...)` or a `print(...)` with a comment behind it prints is to be what the comment says, and
 * nothing else is printed, except for what the page says that it `shows` or `prints`. The Python blocks are the backend's: each begins with what the first one made.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { LocalRun, until } from "./local-run.ts";

const root = join(import.meta.dirname, "..", "..", "..");
let run: LocalRun;
beforeAll(async () => {
  run = await LocalRun.start();
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});
afterAll(() => run?.end());

test.each(["chat", "history", "notifications", "presence", "testing", "migrating-from-socketio"])(
  "%s.md does what it says",
  async (name) => {
    const page = readFileSync(join(root, "docs", `${name}.md`), "utf8");
    const blocks = [...page.matchAll(/^```(js|python) run\n(.*?)^```/gms)].map(([, language, code]) => ({
      language,
      code: code!,
    }));
    expect(blocks.length).toBeGreaterThan(3);
    const says = /(?:console\.log|print|notify)\(.*\).*(?:; \/\/| {2}#) (.*)$/gm;
    const expected = blocks.map(({ code }) => [...code.matchAll(says)].map(([, text]) => text!));
    for (const [, one, other] of page.matchAll(/(?:shows|prints) `(.*?)`(?: and `(.*?)`)?\.$/gm))
      expected[0]!.push(one!, ...(other ? [other] : []));
    const opening = blocks.find(({ language }) => language === "python")?.code;
    const program = blocks.map(({ language, code }) =>
      language === "js" ? code : `await python(${JSON.stringify(code === opening ? code : opening + code)});\n`,
    );
    // The last block ends the connections, so all else is to have happened.
    program.splice(-1, 0, `await printed(${expected.slice(0, -1).flat().length});\n`);

    const lines: string[] = [];
    const printed = (count: number) => until(() => lines.length >= count, `${count} lines, but ${lines.join(" | ")}`);
    const open = new Set<WebSocket>();
    class Counted extends WebSocket {
      constructor(...asked: ConstructorParameters<typeof WebSocket>) {
        super(...asked);
        open.add(this);
        this.addEventListener("close", () => open.delete(this));
      }
    }
    vi.stubGlobal("WebSocket", Counted);
    vi.stubGlobal("url", run.url);
    vi.stubGlobal("token", await run.command("token", "--user", "u1", "--name", "Ann"));
    vi.stubGlobal("printed", printed);
    vi.stubGlobal("python", async (code: string) => {
      const text = await run.python(code);
      if (text) lines.push(...text.split("\n"));
      await new Promise((resolve) => setTimeout(resolve, 300)); // until what was sent has come
    });
    vi.spyOn(console, "log").mockImplementation((...values) => {
      lines.push(values.map((value) => (typeof value === "string" ? value : inspect(value))).join(" "));
    });
    // Inside the repository, so that `roomcast` is found as an application finds it.
    const folder = join(root, "build", "howto");
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `${name}.mjs`), program.join("\n"));
    await import(/* @vite-ignore */ `${join(folder, name)}.mjs?${Date.now()}`);
    await printed(expected.flat().length);
    expect(lines.sort()).toEqual(expected.flat().sort());
    await until(() => open.size === 0, "every connection is closed");
  },
);
