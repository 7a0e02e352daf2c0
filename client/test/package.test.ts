/** What is in the tarball, how large it is, and that a Vite project can use it. Runs on dist/, as `npm test` builds it. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "vite";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WebSocketServer } from "ws";
import { reply } from "./fake-server.ts";

const here = join(import.meta.dirname, "..");
/** Bytes, minified and gzipped, of `createClient` with all that it needs. */
const CORE_BUDGET = 5_000;

let folder: string;
let tarball: string;
let files: string[];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "roomcast-"));
  const [packed] = JSON.parse(
    execFileSync("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder], {
      cwd: here,
      encoding: "utf8",
    }),
  );
  files = packed.files.map(({ path }: { path: string }) => path).sort();
  tarball = join(folder, packed.filename);
}, 30_000);
afterAll(() => rmSync(folder, { recursive: true }));

/** Bundles one module as an application's build would, and gives back its code. */
async function bundle(source: string, env: Record<string, string> = {}): Promise<string> {
  const project = mkdtempSync(join(folder, "project-"));
  writeFileSync(join(project, "package.json"), '{"type": "module", "private": true}');
  execFileSync("npm", ["install", "--offline", "--no-audit", "--no-fund", tarball], { cwd: project, stdio: "pipe" });
  writeFileSync(join(project, "main.js"), source);
  writeFileSync(
    join(project, ".env"),
    Object.entries(env)
      .map(([key, value]) => `${key}=${value}\n`)
      .join(""),
  );
  await build({
    root: project,
    configFile: false,
    logLevel: "error",
    build: {
      target: "es2022",
      minify: true,
      modulePreload: false,
      rollupOptions: {
        input: join(project, "main.js"),
        preserveEntrySignatures: "strict",
        output: { entryFileNames: "out.js" },
        external: ["react"],
      },
    },
  });
  return readFileSync(join(project, "dist", "out.js"), "utf8");
}
const gzipped = (code: string) => gzipSync(code, { level: 9 }).length;

test("the tarball holds the built modules, their types, the licence, and nothing else", () => {
  const modules = ["client", "emitter", "index", "io", "link", "protocol", "react", "socket"];
  const built = modules.flatMap((name) => [`dist/${name}.d.ts`, `dist/${name}.js`]);
  expect(files).toEqual([...built, "LICENSE", "README.md", "package.json"].sort());
  expect(readdirSync(join(here, "src")).filter((name) => !name.endsWith(".d.ts"))).toHaveLength(modules.length);
});

test("every subpath has its module and its types", async () => {
  const { exports } = JSON.parse(readFileSync(join(here, "package.json"), "utf8"));
  for (const subpath of [".", "./socket", "./io", "./react"]) {
    for (const path of Object.values<string>(exports[subpath])) expect(files).toContain(path.slice(2));
  }
});

test(`the core is at most ${CORE_BUDGET} bytes gzipped`, async () => {
  const sizes: Record<string, number> = {};
  for (const [name, source] of Object.entries({
    core: 'export { createClient } from "roomcast";',
    socket: 'export * from "roomcast/socket";',
    io: 'export * from "roomcast/io";',
    react: 'export * from "roomcast/react"; export { createClient } from "roomcast";',
  })) {
    const code = await bundle(source);
    sizes[name] = gzipped(code);
    expect(/from\s*["']react["']/.test(code), `${name} loads React`).toBe(name === "react");
  }
  console.log(sizes);
  expect(sizes.core).toBeLessThanOrEqual(CORE_BUDGET);
});

test("what is not used is not bundled", async () => {
  const code = await bundle('import { createClient } from "roomcast"; export const RoomcastError = 1;');
  expect(code.trim()).toMatch(/^(const|let|var) \w+=1;export\{\w+ as RoomcastError\};$/);
});

test("a Vite project that has installed the tarball builds and connects", async () => {
  const server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
  const tokens: (string | null)[] = [];
  server.on("connection", (connection, request) => {
    tokens.push(new URL(request.url!, "ws://localhost").searchParams.get("token"));
    connection.on("message", (text) => connection.send(JSON.stringify(reply(JSON.parse(`${text}`)))));
  });
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  // The URL comes the way of a Vite application: from .env, put in by the build.
  const code = await bundle(
    `import { initSocket, joinDashboard, disconnectSocket } from "roomcast/socket";
     export async function main(WebSocket) {
       initSocket({ token: "built", WebSocket });
       const reply = await joinDashboard();
       disconnectSocket();
       return reply;
     }`,
    { VITE_WEBSOCKET_URL: `ws://127.0.0.1:${port}` },
  );
  const path = join(folder, "built.mjs");
  writeFileSync(path, code);
  const { main } = await import(/* @vite-ignore */ path);
  const { WebSocket } = await import("ws");
  expect(await main(WebSocket)).toEqual({ success: true, userRole: "user", room: "dashboard_user_u1" });
  expect(tokens).toEqual(["built"]);
  server.close();
});
